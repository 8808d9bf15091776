//! Messages, each in a [CloudEvents 1.0](https://cloudevents.io) envelope (JSON, structured mode).

use std::borrow::Cow;

use larkauth_models::{
    AppId, CardFace, EventId, FailureReason, MessageId, OpenId, SessionId, SessionState, SuspensionReason,
    Timestamp, UnionId, UserId, UserState,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

#[cfg(feature = "schema")]
use crate::schema;

/// The media type of every message body.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// A secret inside a message: AES-256-GCM, bound to its place (message type and session, or table, column and row),
/// base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct SealedText(pub String);

/// A message that is published.
pub trait Message: Serialize + DeserializeOwned + Send + Sync {
    /// CloudEvents `type`, with its version.
    const TYPE: &'static str;
    /// Every routing key that the message may have.
    const ROUTING_KEYS: &'static [&'static str];
    /// Returns the routing key of this value.
    fn routing_key(&self) -> &'static str {
        Self::ROUTING_KEYS[0]
    }
    /// Returns the CloudEvents `subject`: the session id, if the message belongs to a session.
    fn subject(&self) -> Option<String>;
}

/// The CloudEvents envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Envelope<T> {
    /// Always `1.0`.
    pub specversion: Cow<'static, str>,
    /// Unique per effect: a redelivery and a repeated publish carry the same id.
    #[cfg_attr(feature = "schema", schemars(with = "schema::EventId"))]
    pub id: EventId,
    /// Service that published the message, e.g. `/larkauth/gateway`.
    pub source: String,
    /// See [`Message::TYPE`].
    pub r#type: String,
    /// Time of the event.
    pub time: Timestamp,
    /// See [`Message::subject`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Extension attribute: application id.
    #[cfg_attr(feature = "schema", schemars(with = "schema::AppId"))]
    pub appid: AppId,
    /// Always `application/json`.
    pub datacontenttype: Cow<'static, str>,
    /// The message.
    pub data: T,
}

/// Error for a body that is not the expected message. Shows the position, never the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("not a `{expected}` message: line {line}, column {column}")]
    Malformed {
        /// The expected type.
        expected: &'static str,
        /// Line of the body, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Another message type, or a version that this build does not know.
    #[error("expected a `{0}` message and got another type or version")]
    OtherType(&'static str),
}

impl<T: Message> Envelope<T> {
    /// Creates the envelope of a message.
    pub fn new(id: EventId, source: &str, time: Timestamp, appid: AppId, data: T) -> Self {
        Self {
            specversion: Cow::Borrowed("1.0"),
            id,
            source: source.to_owned(),
            r#type: T::TYPE.to_owned(),
            time,
            subject: data.subject(),
            appid,
            datacontenttype: Cow::Borrowed("application/json"),
            data,
        }
    }

    /// Returns the body to publish.
    ///
    /// # Errors
    /// Never fails for the types of this crate; the serializer's error is returned as is.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Decodes a body and checks the message type.
    ///
    /// # Errors
    /// Fails when the body is malformed or of another type.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let envelope: Envelope<serde_json::Value> = serde_json::from_slice(body)
            .map_err(|e| DecodeError::Malformed { expected: T::TYPE, line: e.line(), column: e.column() })?;
        if envelope.r#type != T::TYPE {
            return Err(DecodeError::OtherType(T::TYPE));
        }
        serde_json::from_slice(body).map_err(|e| DecodeError::Malformed {
            expected: T::TYPE,
            line: e.line(),
            column: e.column(),
        })
    }
}

/// A session was created; its card must be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InvitationRequested {
    /// The session; everything else is in the store.
    #[cfg_attr(feature = "schema", schemars(with = "schema::SessionId"))]
    pub session_id: SessionId,
}

/// Action of a person on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CardActionKind {
    /// The person opened the consent page (or, with a code, consented).
    Authorize,
    /// The person refused.
    Cancel,
    /// The person requested a new session on the card of an ended one.
    Retry,
}

/// A click on a card of this product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CardActionTriggered {
    /// The session the card belongs to.
    #[cfg_attr(feature = "schema", schemars(with = "schema::SessionId"))]
    pub session_id: SessionId,
    /// Clicked button.
    pub action: CardActionKind,
    /// Person who clicked, within the application.
    #[cfg_attr(feature = "schema", schemars(with = "schema::OpenId"))]
    pub operator_open_id: OpenId,
    /// Person who clicked, within the company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::UserId>"))]
    pub operator_user_id: Option<UserId>,
    /// Person who clicked, across applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::UnionId>"))]
    pub operator_union_id: Option<UnionId>,
    /// The card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::MessageId>"))]
    pub message_id: Option<MessageId>,
    /// An authorization code that came inside the callback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<SealedText>,
}

/// The browser came back from the consent page with a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthorizationCodeReceived {
    /// The session that the OAuth `state` belongs to.
    #[cfg_attr(feature = "schema", schemars(with = "schema::SessionId"))]
    pub session_id: SessionId,
    /// The code.
    pub code: SealedText,
}

/// The browser came back from the consent page with a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuthorizationDenied {
    /// The session that the OAuth `state` belongs to.
    #[cfg_attr(feature = "schema", schemars(with = "schema::SessionId"))]
    pub session_id: SessionId,
}

/// The card of a session may be outdated and must be reconciled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CardFaceRequested {
    /// The session.
    #[cfg_attr(feature = "schema", schemars(with = "schema::SessionId"))]
    pub session_id: SessionId,
}

/// A session has ended. Informs other services, and triggers the final update of the card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionEnded {
    /// The session.
    #[cfg_attr(feature = "schema", schemars(with = "schema::SessionId"))]
    pub session_id: SessionId,
    /// `completed`, `rejected`, `expired` or `failed`.
    #[cfg_attr(feature = "schema", schemars(with = "schema::SessionState"))]
    pub state: SessionState,
    /// Why, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::FailureReason>"))]
    pub failure_reason: Option<FailureReason>,
    /// The person, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::OpenId>"))]
    pub open_id: Option<OpenId>,
    /// The person, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::UserId>"))]
    pub user_id: Option<UserId>,
    /// True while a card callback is answered with this result: the card must be updated after that answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub card_answer_pending: bool,
}

/// Where a token pair in escrow belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EscrowPlace {
    /// The session whose code was exchanged.
    Session {
        /// The session.
        #[cfg_attr(feature = "schema", schemars(with = "schema::SessionId"))]
        session_id: SessionId,
        /// The claim under which the code was exchanged.
        claim: Uuid,
    },
    /// The token that was refreshed.
    Token {
        /// The person.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        open_id: OpenId,
        /// The generation that the pair replaces.
        generation: i64,
        /// Last known use of the token.
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        last_used_at: Timestamp,
    },
}

/// Lark gave a token pair while the store did not take it. Handled until the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenEscrowed {
    /// Where the pair belongs.
    pub place: EscrowPlace,
    /// The pair, sealed for its table, column and row.
    pub pair: SealedText,
}

/// The token of a person was suspended, because Lark refuses the person, or is suspended no more. Informs other services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UserStateChanged {
    /// The person.
    #[cfg_attr(feature = "schema", schemars(with = "schema::OpenId"))]
    pub open_id: OpenId,
    /// The person, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::UserId>"))]
    pub user_id: Option<UserId>,
    /// `suspended` or `restored`.
    #[cfg_attr(feature = "schema", schemars(with = "schema::UserState"))]
    pub state: UserState,
    /// Why, when suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<schema::SuspensionReason>"))]
    pub reason: Option<SuspensionReason>,
}

/// A callback that is larkauth's or may be, and cannot be read. Goes to the dead letters for inspection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnrecognizedCallback {
    /// Lark's event type, or `card` for an old card frame.
    pub event_type: String,
    /// Reason for which the callback was not recognized.
    pub reason: String,
    /// The callback as received.
    pub payload: SealedText,
}

/// Reply of the worker to a waiting gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Answer to the callback: toast and card, in Lark's format. Absent for a browser redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<serde_json::Value>,
    /// Session whose card the answer shows, and the shown face.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shows: Option<(SessionId, CardFace)>,
    /// True when the clicked card belongs to a session that the store does not have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown_session: bool,
}

macro_rules! message {
    ($name:ident, $type:literal, [$($key:literal),+]) => {
        impl Message for $name {
            const TYPE: &'static str = $type;
            const ROUTING_KEYS: &'static [&'static str] = &[$($key),+];
            fn subject(&self) -> Option<String> { Some(self.session_id.to_string()) }
        }
    };
}
message!(InvitationRequested, "larkauth.invitation.requested.v1", ["invitation.requested"]);
message!(CardActionTriggered, "larkauth.card.action_triggered.v1", ["card.action.triggered"]);
message!(AuthorizationCodeReceived, "larkauth.oauth.code_received.v1", ["oauth.code.received"]);
message!(AuthorizationDenied, "larkauth.oauth.denied.v1", ["oauth.denied"]);
message!(CardFaceRequested, "larkauth.card.face_requested.v1", ["card.face.requested"]);

impl Message for SessionEnded {
    const TYPE: &'static str = "larkauth.session.ended.v1";
    const ROUTING_KEYS: &'static [&'static str] =
        &["session.completed", "session.rejected", "session.expired", "session.failed"];
    fn routing_key(&self) -> &'static str {
        match self.state {
            SessionState::Completed => "session.completed",
            SessionState::Rejected => "session.rejected",
            SessionState::Expired => "session.expired",
            // A pending session has not ended. Publishing one is a bug; `failed` makes it visible.
            SessionState::Failed | SessionState::Pending => "session.failed",
        }
    }
    fn subject(&self) -> Option<String> {
        Some(self.session_id.to_string())
    }
}

impl Message for TokenEscrowed {
    const TYPE: &'static str = "larkauth.token.escrowed.v1";
    const ROUTING_KEYS: &'static [&'static str] = &["token.escrowed"];
    fn subject(&self) -> Option<String> {
        match &self.place {
            EscrowPlace::Session { session_id, .. } => Some(session_id.to_string()),
            EscrowPlace::Token { .. } => None,
        }
    }
}

impl Message for UserStateChanged {
    const TYPE: &'static str = "larkauth.user.state_changed.v1";
    const ROUTING_KEYS: &'static [&'static str] = &["user.suspended", "user.restored"];
    fn routing_key(&self) -> &'static str {
        match self.state {
            UserState::Suspended => "user.suspended",
            UserState::Restored => "user.restored",
        }
    }
    fn subject(&self) -> Option<String> {
        None
    }
}

impl Message for UnrecognizedCallback {
    const TYPE: &'static str = "larkauth.callback.unrecognized.v1";
    const ROUTING_KEYS: &'static [&'static str] = &["callback.unrecognized"];
    fn subject(&self) -> Option<String> {
        None
    }
}

/// One line of [`catalogue`].
pub struct CatalogueEntry {
    /// CloudEvents type.
    pub r#type: &'static str,
    /// Routing keys.
    pub routing_keys: &'static [&'static str],
    /// JSON schema of the whole body.
    #[cfg(feature = "schema")]
    pub schema: schemars::Schema,
}

macro_rules! entries {
    ($($message:ident),+ $(,)?) => {
        vec![$(CatalogueEntry {
            r#type: <$message as Message>::TYPE,
            routing_keys: <$message as Message>::ROUTING_KEYS,
            #[cfg(feature = "schema")]
            schema: schemars::schema_for!(Envelope<$message>),
        }),+]
    };
}

/// Returns every message there is, for the generated contract.
#[must_use]
pub fn catalogue() -> Vec<CatalogueEntry> {
    entries![
        InvitationRequested,
        CardActionTriggered,
        AuthorizationCodeReceived,
        AuthorizationDenied,
        CardFaceRequested,
        SessionEnded,
        TokenEscrowed,
        UserStateChanged,
        UnrecognizedCallback,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> Envelope<AuthorizationDenied> {
        let session_id = SessionId(Uuid::from_u128(1));
        Envelope::new(
            EventId::new("e1").unwrap(),
            "/larkauth/gateway",
            Timestamp::UNIX_EPOCH,
            AppId::new("cli_0123456789abcdef").unwrap(),
            AuthorizationDenied { session_id },
        )
    }

    #[test]
    fn envelope_decode_of_encoded_round_trips() {
        assert_eq!(Envelope::decode(&denied().encode().unwrap()), Ok(denied()));
    }

    #[test]
    fn envelope_decode_of_other_type_and_of_garbage_returns_distinct_errors() {
        let body = denied().encode().unwrap();
        assert_eq!(
            Envelope::<InvitationRequested>::decode(&body),
            Err(DecodeError::OtherType(InvitationRequested::TYPE))
        );
        let error =
            Envelope::<InvitationRequested>::decode(b"{\"secret\":\"u-123\"").unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("u-123"), "{error}");
    }
}
