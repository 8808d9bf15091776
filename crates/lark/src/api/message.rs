//! Sending and changing cards in chats.

use larkauth_models::{ExposeSecret, MessageId, OpenId, SecretString, UnionId, UserId};
use serde_json::{Value, json};

use super::{
    client::LarkClient,
    rate_limiter::EndpointClass,
    spec::{Api, Repeat},
};
use crate::{error::LarkError, lenient::Fields};

const SEND: Api = Api::lark("send_card").limited_as(EndpointClass::MessageSend);
const UPDATE: Api = Api::lark("update_card").limited_as(EndpointClass::MessageUpdate);
const DELAYED_UPDATE: Api = Api::lark("delayed_update");

/// Largest card that Lark accepts, in bytes of JSON.
pub const MAX_CARD_BYTES: usize = 30 * 1024;
/// Longest message uuid that Lark accepts, in characters.
const MAX_UUID: usize = 50;

/// The receiver of a message.
#[derive(Clone, Debug)]
pub enum Receiver {
    /// A person, by the id within this application.
    OpenId(OpenId),
    /// A person, by the id within the company.
    UserId(UserId),
    /// A person, by the id within one developer's applications.
    UnionId(UnionId),
    /// A person, by email address.
    Email(SecretString),
    /// A group.
    ChatId(String),
}

impl Receiver {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::OpenId(id) => ("open_id", id.as_str()),
            Self::UserId(id) => ("user_id", id.as_str()),
            Self::UnionId(id) => ("union_id", id.as_str()),
            Self::Email(address) => ("email", address.expose_secret()),
            Self::ChatId(id) => ("chat_id", id),
        }
    }
}

impl LarkClient {
    /// Sends a card. Lark sends at most one message an hour for the same `uuid` (1 to 50 characters), so repeating the
    /// call is safe.
    ///
    /// # Errors
    /// [`ErrorKind::Message`](crate::ErrorKind::Message) when the card does not reach this receiver.
    /// [`ErrorKind::InvalidRequest`](crate::ErrorKind::InvalidRequest), without a call, when the card is larger than
    /// [`MAX_CARD_BYTES`].
    pub async fn send_card(
        &self,
        receiver: &Receiver,
        content: &Value,
        uuid: &str,
    ) -> Result<MessageId, LarkError> {
        if uuid.is_empty() || uuid.len() > MAX_UUID {
            return Err(LarkError::not_sent(SEND.name, "a message uuid has 1 to 50 characters"));
        }
        let content = card_text(SEND, content)?;
        let (kind, id) = receiver.parts();
        let mut url = self.api_url("/open-apis/im/v1/messages");
        url.query_pairs_mut().append_pair("receive_id_type", kind);
        let body = json!({ "receive_id": id, "msg_type": "interactive", "content": content, "uuid": uuid });
        let build = || self.options().http.post(url.clone()).json(&body);
        let read = |answer: &Fields| MessageId::new(answer.text("message_id")?).ok();
        self.call_as_tenant(SEND, Repeat::Safe, build, read).await
    }

    /// Replaces a card. Both the old and the new card must have `config.update_multi: true`.
    ///
    /// # Errors
    /// [`ErrorKind::Message`](crate::ErrorKind::Message) when the card can no longer be changed.
    pub async fn update_card(&self, message_id: &MessageId, content: &Value) -> Result<(), LarkError> {
        let body = json!({ "content": card_text(UPDATE, content)? });
        let url = self.api_url(&format!("/open-apis/im/v1/messages/{message_id}"));
        let build = || self.options().http.patch(url.clone()).json(&body);
        self.call_as_tenant(UPDATE, Repeat::Safe, build, Fields::confirmation).await
    }

    /// Replaces the card that a callback came from, with the callback's token. Lark allows this after the callback was
    /// answered, for 30 minutes, at most twice. The call is never repeated, as each call counts as one use of the token.
    ///
    /// # Errors
    /// The error that Lark's code means.
    pub async fn delayed_update(&self, token: &SecretString, card: &Value) -> Result<(), LarkError> {
        card_text(DELAYED_UPDATE, card)?;
        let body = json!({ "token": token.expose_secret(), "card": card });
        let url = self.api_url("/open-apis/interactive/v1/card/update");
        let build = || self.options().http.post(url.clone()).json(&body);
        self.call_as_tenant(DELAYED_UPDATE, Repeat::Never, build, Fields::confirmation).await
    }
}

fn card_text(api: Api, card: &Value) -> Result<String, LarkError> {
    let text = card.to_string();
    if text.len() > MAX_CARD_BYTES {
        return Err(LarkError::not_sent(api.name, "the card is larger than the 30 KB that Lark accepts"));
    }
    Ok(text)
}
