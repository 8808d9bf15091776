use crate::{AppId, OpenId, SecretString, Timestamp, spelled_enum::spelled_enum};

spelled_enum! {
    /// Whom a token speaks for.
    TokenKind {
        /// A person.
        User = "user",
        /// The application inside one company.
        Tenant = "tenant",
        /// The application itself.
        App = "app",
    }
}

spelled_enum! {
    /// What may be done with a stored token.
    TokenStatus {
        /// Alive: served and refreshed.
        Active = "active",
        /// A refresh was sent and its answer lost: served to its expiry, tried once more, then asked for again.
        OutcomeUnknown = "outcome_unknown",
        /// The refresh token is dead: the person must consent again.
        ReauthorizationRequired = "reauthorization_required",
        /// The person may not use the application at present.
        Suspended = "suspended",
        /// Forgotten on request.
        Revoked = "revoked",
    }
}

/// What Lark's token endpoint hands out.
#[derive(Clone, Debug)]
pub struct TokenPair {
    /// Sent as `Authorization: Bearer`. Up to 8 KB.
    pub access_token: SecretString,
    /// When the access token ends.
    pub access_expires_at: Timestamp,
    /// Works exactly once; missing without the `offline_access` scope.
    pub refresh_token: Option<SecretString>,
    /// When the refresh token ends.
    pub refresh_expires_at: Option<Timestamp>,
    /// What was granted; more than asked for when earlier grants add up.
    pub scopes: Vec<String>,
}

/// One live token of one person in one application.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// The application.
    pub app_id: AppId,
    /// The person.
    pub open_id: OpenId,
    /// Whom it speaks for.
    pub kind: TokenKind,
    /// The secrets and their ends.
    pub pair: TokenPair,
    /// When Lark gave this pair.
    pub issued_at: Timestamp,
    /// When the person consented; refreshing ends 365 days later.
    pub granted_at: Timestamp,
    /// Counts refreshes; a write names the generation it replaces.
    pub generation: i64,
    /// What may be done with it.
    pub status: TokenStatus,
}

impl StoredToken {
    /// Whether the access token can still be handed out with at least `min_validity` left.
    ///
    /// Depends on time only: a token awaiting re-authorization is served to its own expiry, a revoked or suspended
    /// one is not served at all.
    #[must_use]
    pub fn is_servable(&self, now: Timestamp, min_validity: chrono::TimeDelta) -> bool {
        !matches!(self.status, TokenStatus::Revoked | TokenStatus::Suspended)
            && self.pair.access_expires_at - now >= min_validity.max(chrono::TimeDelta::seconds(1))
    }
}
