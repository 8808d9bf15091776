use crate::{
    AppId, CardFace, CardOptions, MessageId, OpenId, SecretString, SessionId, Timestamp, UnionId, UserId,
    spelled_enum::spelled_enum,
};

spelled_enum! {
    /// Where an invitation stands. Only `pending` can change, and only once.
    SessionState {
        /// The person was asked and has not answered.
        Pending = "pending",
        /// The token is stored.
        Completed = "completed",
        /// The person said no.
        Rejected = "rejected",
        /// Nobody answered in time.
        Expired = "expired",
        /// Something went wrong; see the failure reason.
        Failed = "failed",
    }
}

impl SessionState {
    /// True for every state but `pending`: nothing leaves it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending)
    }
}

spelled_enum! {
    /// The way an invitation takes.
    AuthMethod {
        /// A card in the chat, its clicks pushed over the long connection.
        WebsocketCard = "websocket_card",
        /// No card: the caller shows the consent page's address itself.
        Oauth = "oauth",
        /// A card in the chat, its clicks posted to the HTTP callback.
        HttpCallback = "http_callback",
        /// RFC 8628 device authorization.
        DeviceCode = "device_code",
    }
}

impl AuthMethod {
    /// Whether this way shows a card in the chat.
    #[must_use]
    pub const fn has_card(self) -> bool {
        matches!(self, Self::WebsocketCard | Self::HttpCallback)
    }
}

spelled_enum! {
    /// Why a session ended as `failed`.
    FailureReason {
        /// Somebody else consented than the person who was asked; nothing was stored.
        IdentityMismatch = "identity_mismatch",
        /// Lark does not know the code, or it expired, or it was used before.
        CodeInvalid = "code_invalid",
        /// A worker stopped between exchange and commit; the code cannot be used again.
        ExchangeInterrupted = "exchange_interrupted",
        /// Lark's answer was lost; the code may have been used.
        ExchangeOutcomeUnknown = "exchange_outcome_unknown",
        /// Lark stayed unavailable for longer than the code lived.
        UpstreamUnavailable = "upstream_unavailable",
        /// Lark does not let this person use the application (unknown, resigned, frozen, out of range).
        UserUnavailable = "user_unavailable",
        /// The application's credentials, scopes or redirect URI are wrong; no person is to blame.
        AppMisconfigured = "app_misconfigured",
        /// The card could not be delivered to this person.
        CardUndeliverable = "card_undeliverable",
    }
}

/// Who is asked. At least one of the two is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// As this application sees them.
    pub open_id: Option<OpenId>,
    /// As their company sees them.
    pub user_id: Option<UserId>,
}

impl Person {
    /// Whether they are somebody who is known by these; nothing where that cannot be told, because the only id known of
    /// both is missing.
    #[must_use]
    pub fn is(&self, open_id: &OpenId, user_id: Option<&UserId>) -> Option<bool> {
        match (&self.open_id, &self.user_id) {
            (Some(asked), _) => Some(asked == open_id),
            (None, Some(asked)) => user_id.map(|user_id| asked == user_id),
            (None, None) => None,
        }
    }

    /// One text that stands for this person, for limits and logs; prefers the open id.
    #[must_use]
    pub fn key(&self) -> &str {
        self.open_id.as_ref().map(OpenId::as_str).or(self.user_id.as_ref().map(UserId::as_str)).unwrap_or("")
    }
}

/// What the consent URL of one session is made of. Dropped when the session ends.
#[derive(Clone, Debug)]
pub struct ConsentSecrets {
    /// OAuth `state`: unguessable, for one use, bound to the session.
    pub state: SecretString,
    /// PKCE `code_verifier` (RFC 7636), 43 to 128 characters.
    pub pkce_verifier: SecretString,
}

/// One invitation to authorize, as stored.
#[derive(Clone, Debug)]
pub struct AuthSession {
    /// Its identifier.
    pub id: SessionId,
    /// The application that asks.
    pub app_id: AppId,
    /// Who is asked.
    pub person: Person,
    /// Known once the person consented.
    pub union_id: Option<UnionId>,
    /// Known once the person consented.
    pub user_name: Option<String>,
    /// Known once the person consented and the application may see it.
    pub email: Option<SecretString>,
    /// Known once the person consented and the application may see it.
    pub mobile: Option<SecretString>,
    /// The way it takes.
    pub auth_method: AuthMethod,
    /// Where it stands.
    pub state: SessionState,
    /// Set when `state` is `failed`, and only then.
    pub failure_reason: Option<FailureReason>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// How the card looks.
    pub card: CardOptions,
    /// Present while pending.
    pub consent: Option<ConsentSecrets>,
    /// The card, once sent.
    pub message_id: Option<MessageId>,
    /// The face that the card is known to show.
    pub card_face: Option<CardFace>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it ended well.
    pub completed_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_round_trip() {
        for state in SessionState::ALL {
            assert_eq!(state.as_str().parse::<SessionState>().unwrap(), *state);
        }
        assert!("done".parse::<SessionState>().unwrap_err().to_string().contains("`pending`"));
    }

    #[test]
    fn only_pending_is_open() {
        assert_eq!(SessionState::ALL.iter().filter(|s| !s.is_final()).count(), 1);
    }
}
