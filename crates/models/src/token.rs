use crate::{AppId, ExposeSecret, OpenId, SecretString, Timestamp, spelled_enum::spelled_enum};

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
    /// Why a person loses access.
    LossReason {
        /// The refresh token is invalid: the person must consent again.
        ReauthorizationRequired = "reauthorization_required",
        /// Lark refuses the person.
        Suspended = "suspended",
        /// The answer to a refresh was lost, and the refresh token may be used up.
        OutcomeUnknown = "outcome_unknown",
        /// There is no refresh token, because `offline_access` was not granted.
        NoRefreshToken = "no_refresh_token",
        /// The refresh token expires before the next scheduled refresh.
        RefreshTokenExpires = "refresh_token_expires",
        /// Refreshing ends 365 days after the consent.
        ConsentEnds = "consent_ends",
        /// Lark refuses the application, so its tokens are not refreshed.
        BreakerOpen = "breaker_open",
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
    /// Access token, sent as `Authorization: Bearer`. Up to 8 KB. Empty when the answer had no usable one.
    pub access_token: SecretString,
    /// Expiry of the access token. Time of the request when the answer had no usable access token.
    pub access_expires_at: Timestamp,
    /// Refresh token, valid for one use; absent without the `offline_access` scope.
    pub refresh_token: Option<SecretString>,
    /// Expiry of the refresh token.
    pub refresh_expires_at: Option<Timestamp>,
    /// Granted scopes. Earlier grants are included, so there may be more than requested.
    pub scopes: Vec<String>,
}

impl TokenPair {
    /// Returns whether Lark's answer had an access token. Without one the pair holds a refresh token only, and is refreshed
    /// before anything is served.
    #[must_use]
    pub fn has_access_token(&self) -> bool {
        !self.access_token.expose_secret().is_empty()
    }

    /// Returns the pair with these scopes if Lark named none: an answer without scopes grants what was asked for, and the answer to
    /// a refresh changes none (RFC 6749, sections 5.1 and 6).
    #[must_use]
    pub fn with_scopes_unless_named(mut self, scopes: &[String]) -> Self {
        if self.scopes.is_empty() {
            self.scopes = scopes.to_vec();
        }
        self
    }
}

/// A stored secret: readable, or sealed with a key that this process does not have.
#[derive(Clone, Debug)]
pub enum StoredSecret {
    /// The secret.
    Readable(SecretString),
    /// Why it cannot be read.
    Unreadable(UnreadableSecret),
}

/// Why a stored secret cannot be read. An operator's fault, never the person's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableSecret {
    /// Column of the secret.
    pub column: &'static str,
    /// Id of the key that sealed it; `None` when the value is malformed.
    pub key_id: Option<String>,
    /// What is wrong, and the cure.
    pub reason: String,
}

impl StoredSecret {
    /// Returns the secret, if it is readable.
    #[must_use]
    pub const fn readable(&self) -> Option<&SecretString> {
        match self {
            Self::Readable(secret) => Some(secret),
            Self::Unreadable(_) => None,
        }
    }

    /// Returns why the secret cannot be read, if it cannot.
    #[must_use]
    pub const fn unreadable(&self) -> Option<&UnreadableSecret> {
        match self {
            Self::Readable(_) => None,
            Self::Unreadable(why) => Some(why),
        }
    }
}

impl From<SecretString> for StoredSecret {
    fn from(secret: SecretString) -> Self {
        Self::Readable(secret)
    }
}

/// A stored pair. Each of its two secrets is readable by itself.
#[derive(Clone, Debug)]
pub struct StoredPair {
    /// Access token.
    pub access_token: StoredSecret,
    /// Expiry of the access token.
    pub access_expires_at: Timestamp,
    /// Refresh token; absent without the `offline_access` scope.
    pub refresh_token: Option<StoredSecret>,
    /// Expiry of the refresh token.
    pub refresh_expires_at: Option<Timestamp>,
    /// Granted scopes.
    pub scopes: Vec<String>,
}

impl StoredPair {
    /// Returns the required scopes that are not granted.
    #[must_use]
    pub fn missing(&self, required: &[String]) -> Vec<String> {
        required.iter().filter(|scope| !self.scopes.contains(scope)).cloned().collect()
    }

    /// Returns whether the pair holds a refresh token only; see [`TokenPair::has_access_token`].
    #[must_use]
    pub fn lacks_access_token(&self) -> bool {
        self.access_token.readable().is_some_and(|token| token.expose_secret().is_empty())
    }

    /// Returns why one of the secrets cannot be read; of the access token first.
    #[must_use]
    pub fn unreadable(&self) -> Option<&UnreadableSecret> {
        self.access_token.unreadable().or_else(|| self.refresh_token.as_ref()?.unreadable())
    }
}

impl From<TokenPair> for StoredPair {
    fn from(pair: TokenPair) -> Self {
        Self {
            access_token: pair.access_token.into(),
            access_expires_at: pair.access_expires_at,
            refresh_token: pair.refresh_token.map(Into::into),
            refresh_expires_at: pair.refresh_expires_at,
            scopes: pair.scopes,
        }
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
    pub pair: StoredPair,
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
    /// Returns true when the access token may be served, can be read and is valid for at least `min_validity`, of which at most
    /// half of the token's own life counts: otherwise a token that lives shorter would be refreshed for each read, and the new
    /// one would not do either.
    ///
    /// A token that awaits re-authorization is served until it expires. A revoked or suspended token is not served.
    #[must_use]
    pub fn is_servable(&self, now: Timestamp, min_validity: chrono::TimeDelta) -> bool {
        let half_of_life = (self.pair.access_expires_at - self.issued_at) / 2;
        self.pair.access_token.readable().is_some()
            && !self.pair.lacks_access_token()
            && !matches!(self.status, TokenStatus::Revoked | TokenStatus::Suspended)
            && self.pair.access_expires_at - now
                >= min_validity.min(half_of_life).max(chrono::TimeDelta::seconds(1))
    }

    /// Returns whether a refresh may be tried: the status permits it, and the refresh token can be read.
    #[must_use]
    pub const fn is_refreshable(&self) -> bool {
        matches!(self.pair.refresh_token, Some(StoredSecret::Readable(_)))
            && matches!(self.status, TokenStatus::Active | TokenStatus::OutcomeUnknown)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn unreadable(column: &'static str) -> StoredSecret {
        let (key_id, reason) = (Some("old".to_owned()), "no key".to_owned());
        StoredSecret::Unreadable(UnreadableSecret { column, key_id, reason })
    }

    fn stored(access_token: StoredSecret, refresh_token: Option<StoredSecret>) -> StoredToken {
        let now = Timestamp::UNIX_EPOCH;
        StoredToken {
            app_id: AppId::new("cli_0123456789abcdef").unwrap(),
            open_id: OpenId::new("ou_1").unwrap(),
            kind: TokenKind::User,
            pair: StoredPair {
                access_token,
                access_expires_at: now + TimeDelta::hours(2),
                refresh_token,
                refresh_expires_at: None,
                scopes: vec!["a".to_owned()],
            },
            issued_at: now,
            granted_at: now,
            generation: 1,
            status: TokenStatus::Active,
            failures: 0,
            next_attempt_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn secret_that_cannot_be_read_prevents_its_own_use_only() {
        let now = Timestamp::UNIX_EPOCH;
        let readable = || StoredSecret::from(SecretString::from("s"));
        let uses = |token: &StoredToken| (token.is_servable(now, TimeDelta::zero()), token.is_refreshable());
        let both = stored(readable(), Some(readable()));
        assert_eq!((uses(&both), both.pair.unreadable()), ((true, true), None));
        let no_refresh = stored(readable(), Some(unreadable("refresh")));
        assert_eq!(uses(&no_refresh), (true, false));
        assert_eq!(no_refresh.pair.unreadable().unwrap().column, "refresh");
        let no_access = stored(unreadable("access"), Some(readable()));
        assert_eq!(uses(&no_access), (false, true));
        assert_eq!(no_access.pair.unreadable().unwrap().column, "access");
        assert_eq!(uses(&stored(readable(), None)), (true, false));
    }

    #[test]
    fn is_servable_counts_at_most_half_of_the_life() {
        let now = Timestamp::UNIX_EPOCH;
        let servable = |life: i64, age: i64, min_validity: i64| {
            let mut token = stored(SecretString::from("s").into(), None);
            token.pair.access_expires_at = now + TimeDelta::seconds(life);
            token.is_servable(now + TimeDelta::seconds(age), TimeDelta::seconds(min_validity))
        };
        assert!(servable(1800, 900, 3600) && !servable(1800, 901, 3600), "shorter than asked for");
        assert!(servable(20, 10, 60) && !servable(20, 11, 60), "shorter than a minute");
        assert!(servable(7200, 3600, 3600) && !servable(7200, 3601, 3600), "the usual life");
        assert!(servable(7200, 7140, 60) && !servable(7200, 7141, 60));
        assert!(servable(1, 0, 60) && !servable(1, 1, 60) && !servable(0, 0, 0), "never after its end");
    }

    #[test]
    fn empty_access_token_is_not_served_whatever_its_expiry() {
        let token = stored(SecretString::from("").into(), Some(SecretString::from("r").into()));
        assert!(!token.is_servable(Timestamp::UNIX_EPOCH, TimeDelta::zero()));
        assert!(token.is_refreshable() && token.pair.lacks_access_token());
    }
}
