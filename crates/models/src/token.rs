use crate::{AppId, OpenId, SecretString, Timestamp, spelled_enum::spelled_enum};

spelled_enum! {
    /// Subject of a token.
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
    /// Status of a stored token.
    TokenStatus {
        /// Served and refreshed.
        Active = "active",
        /// The answer to a refresh was lost. The token is served until it expires and refreshed once more; then the person must
        /// consent again.
        OutcomeUnknown = "outcome_unknown",
        /// The refresh token is invalid: the person must consent again.
        ReauthorizationRequired = "reauthorization_required",
        /// The person is not allowed to use the application for now.
        Suspended = "suspended",
        /// Deleted on request.
        Revoked = "revoked",
    }
}

spelled_enum! {
    /// Whose tokens are refreshed ahead of their expiry.
    RefreshPolicy {
        /// Every access token is kept valid.
        Eager = "eager",
        /// The access tokens that are used are kept valid; of the others the refresh token is.
        Adaptive = "adaptive",
        /// A token is refreshed when a caller needs it. A login that is not used for seven days ends.
        OnDemand = "on_demand",
    }
}

/// Tokens returned by Lark's token endpoint.
#[derive(Clone, Debug)]
pub struct TokenPair {
    /// Access token, sent as `Authorization: Bearer`. Up to 8 KB.
    pub access_token: SecretString,
    /// Expiry of the access token.
    pub access_expires_at: Timestamp,
    /// Refresh token, valid for one use; absent without the `offline_access` scope.
    pub refresh_token: Option<SecretString>,
    /// Expiry of the refresh token.
    pub refresh_expires_at: Option<Timestamp>,
    /// Granted scopes. Earlier grants are included, so there may be more than requested.
    pub scopes: Vec<String>,
}

impl TokenPair {
    /// Returns the required scopes that are not granted.
    #[must_use]
    pub fn missing(&self, required: &[String]) -> Vec<String> {
        required.iter().filter(|scope| !self.scopes.contains(scope)).cloned().collect()
    }
}

/// The current token of one person in one application.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// Application.
    pub app_id: AppId,
    /// Person.
    pub open_id: OpenId,
    /// Subject of the token.
    pub kind: TokenKind,
    /// Secrets and their expiry.
    pub pair: TokenPair,
    /// Time at which Lark issued the pair.
    pub issued_at: Timestamp,
    /// Time of consent; refreshing ends 365 days later.
    pub granted_at: Timestamp,
    /// Number of refreshes; a write names the generation that it replaces.
    pub generation: i64,
    /// Status of the token.
    pub status: TokenStatus,
    /// Failed refreshes in a row.
    pub failures: u32,
    /// Time of the next refresh, or of the next attempt after failures.
    pub next_attempt_at: Option<Timestamp>,
    /// Last use that was recorded.
    pub last_used_at: Option<Timestamp>,
}

impl StoredToken {
    /// Returns true when the access token may be served and is valid for at least `min_validity`.
    ///
    /// A token that awaits re-authorization is served until it expires. A revoked or suspended token is not served.
    #[must_use]
    pub fn is_servable(&self, now: Timestamp, min_validity: chrono::TimeDelta) -> bool {
        !matches!(self.status, TokenStatus::Revoked | TokenStatus::Suspended)
            && self.pair.access_expires_at - now >= min_validity.max(chrono::TimeDelta::seconds(1))
    }

    /// Returns whether a refresh may be tried.
    #[must_use]
    pub const fn is_refreshable(&self) -> bool {
        self.pair.refresh_token.is_some()
            && matches!(self.status, TokenStatus::Active | TokenStatus::OutcomeUnknown)
    }
}
