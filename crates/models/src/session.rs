use crate::{
    AppId, CardFace, CardOptions, MessageId, OpenId, SecretString, SessionId, Timestamp, UnionId, UserId,
    spelled_enum::spelled_enum,
};

spelled_enum! {
    /// State of an authorization session. Only `pending` can change, and only once.
    SessionState {
        /// The person has not answered yet.
        Pending = "pending",
        /// The token is stored.
        Completed = "completed",
        /// The person refused.
        Rejected = "rejected",
        /// The person did not answer in time.
        Expired = "expired",
        /// The authorization failed; see the failure reason.
        Failed = "failed",
    }
}

impl SessionState {
    /// Returns true for every state except `pending`: a final state never changes.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending)
    }
}

spelled_enum! {
    /// Method of authorization.
    AuthMethod {
        /// A card in the chat, its clicks pushed over the long connection.
        WebsocketCard = "websocket_card",
        /// No card: the caller shows the address of the consent page.
        Oauth = "oauth",
        /// A card in the chat, its clicks posted to the HTTP callback.
        HttpCallback = "http_callback",
        /// RFC 8628 device authorization.
        DeviceCode = "device_code",
    }
}

impl AuthMethod {
    /// Returns true when the method shows a card in the chat.
    #[must_use]
    pub const fn has_card(self) -> bool {
        matches!(self, Self::WebsocketCard | Self::HttpCallback)
    }
}

spelled_enum! {
    /// Reason for which a session ended as `failed`.
    FailureReason {
        /// Another person than the invited one consented; nothing was stored.
        IdentityMismatch = "identity_mismatch",
        /// The code is unknown to Lark, expired or already used.
        CodeInvalid = "code_invalid",
        /// A worker stopped between exchange and commit; the code cannot be used again. Sessions of earlier builds only.
        ExchangeInterrupted = "exchange_interrupted",
        /// Lark's answer was lost, or a worker stopped before it was kept; the code may have been used.
        ExchangeOutcomeUnknown = "exchange_outcome_unknown",
        /// Lark was unavailable until the code expired.
        UpstreamUnavailable = "upstream_unavailable",
        /// Lark denies this person the application (unknown, resigned, frozen, out of range).
        UserUnavailable = "user_unavailable",
        /// The application's credentials, scopes or redirect URI are wrong.
        AppMisconfigured = "app_misconfigured",
        /// The application was switched off while the session was open; no code was exchanged.
        AppDisabled = "app_disabled",
        /// The card could not be delivered to this person.
        CardUndeliverable = "card_undeliverable",
        /// A part of larkauth was not available: no card was sent, or the code was not exchanged before it expired.
        ServiceUnavailable = "service_unavailable",
    }
}

impl FailureReason {
    /// Returns whether the person, or the person's account, is the reason. Another attempt soon would only be a nuisance.
    #[must_use]
    pub const fn is_of_person(self) -> bool {
        matches!(self, Self::IdentityMismatch | Self::UserUnavailable | Self::CardUndeliverable)
    }
}

/// The invited person. At least one of the two ids is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Identifier within the application.
    pub open_id: Option<OpenId>,
    /// Identifier within the company.
    pub user_id: Option<UserId>,
}

impl Person {
    /// Compares this person with the ids of another. Every id that is known of both has to agree. Returns `None` when no
    /// id is known of both.
    #[must_use]
    pub fn is(&self, open_id: &OpenId, user_id: Option<&UserId>) -> Option<bool> {
        let same_open_id = self.open_id.as_ref().map(|own| own == open_id);
        let same_user_id = self.user_id.as_ref().zip(user_id).map(|(own, other)| own == other);
        match (same_open_id, same_user_id) {
            (Some(open_ids), Some(user_ids)) => Some(open_ids && user_ids),
            (one, other) => one.or(other),
        }
    }

    /// Returns the open id, else the user id: a key for rate limits and logs.
    #[must_use]
    pub fn key(&self) -> &str {
        self.open_id.as_ref().map(OpenId::as_str).or(self.user_id.as_ref().map(UserId::as_str)).unwrap_or("")
    }
}

/// Secrets of the consent URL of one session. Deleted when the session ends.
#[derive(Clone, Debug)]
pub struct ConsentSecrets {
    /// OAuth `state`: unguessable, single use, bound to the session.
    pub state: SecretString,
    /// PKCE `code_verifier` (RFC 7636), 43 to 128 characters.
    pub pkce_verifier: SecretString,
}

/// An authorization session as stored.
#[derive(Clone, Debug)]
pub struct AuthSession {
    /// Session id.
    pub id: SessionId,
    /// Application that requests the authorization.
    pub app_id: AppId,
    /// Ids by which the caller asked for the person. They never change, and identity is checked against them.
    pub asked: Person,
    /// Invited person: the asked ids, and those that were learned since.
    pub person: Person,
    /// Known after consent.
    pub union_id: Option<UnionId>,
    /// Known after consent.
    pub user_name: Option<String>,
    /// Known after consent, when the application has the permission to read it.
    pub email: Option<SecretString>,
    /// Known after consent, when the application has the permission to read it.
    pub mobile: Option<SecretString>,
    /// Method of authorization.
    pub auth_method: AuthMethod,
    /// State of the session.
    pub state: SessionState,
    /// Set exactly when `state` is `failed`.
    pub failure_reason: Option<FailureReason>,
    /// Requested scopes.
    pub scopes: Vec<String>,
    /// Scopes that Lark granted. Known after consent.
    pub granted_scopes: Option<Vec<String>>,
    /// Content options of the card.
    pub card: CardOptions,
    /// Present while pending.
    pub consent: Option<ConsentSecrets>,
    /// Message id of the card, after sending.
    pub message_id: Option<MessageId>,
    /// Last face that the card is known to show.
    pub card_face: Option<CardFace>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of expiry.
    pub expires_at: Timestamp,
    /// Time of completion.
    pub completed_at: Option<Timestamp>,
}

impl AuthSession {
    /// Returns the requested scopes that were not granted, once that is known.
    #[must_use]
    pub fn missing_scopes(&self) -> Option<Vec<String>> {
        let granted = self.granted_scopes.as_ref()?;
        Some(self.scopes.iter().filter(|scope| !granted.contains(scope)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_state_from_str_of_as_str_round_trips() {
        for state in SessionState::ALL {
            assert_eq!(state.as_str().parse::<SessionState>().unwrap(), *state);
        }
        assert!("done".parse::<SessionState>().unwrap_err().to_string().contains("`pending`"));
    }

    #[test]
    fn session_state_is_final_except_pending() {
        assert_eq!(SessionState::ALL.iter().filter(|s| !s.is_final()).count(), 1);
    }
}
