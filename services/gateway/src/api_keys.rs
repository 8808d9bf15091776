use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock};
use larkauth_auth::{AuthError, Context, api_keys::is_well_formed};
use larkauth_models::{ExposeSecret, KeyAccess, KeyScope, SecretString};
use larkauth_storage::ApiKey;
use moka::future::Cache;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{
    actor::ACTOR,
    unknown::{Unknown, sha256},
};

/// Life of the knowledge that there is no such key: 1 s.
const UNKNOWN_TTL: Duration = Duration::from_secs(1);
/// Most keys whose requests are counted.
const CAPACITY: u64 = 10_000;
/// Time after which the count of requests of an unused key is dropped: longer than the minute that a limit counts.
const LIMITER_IDLE: Duration = Duration::from_secs(120);
/// Name of the bootstrap key, which has no row and no id.
const BOOTSTRAP_NAME: &str = "API_KEY";

/// The API keys.
pub(crate) struct ApiKeys {
    /// The key of the setting `API_KEY`, with its SHA-256.
    bootstrap: Option<([u8; 32], Arc<ApiKey>)>,
    context: Context,
    unknown: Unknown,
    /// Requests of each key with a limit, with the limit that was in force.
    limiters: Cache<(Uuid, NonZeroU32), Arc<DefaultDirectRateLimiter>>,
}

impl ApiKeys {
    pub(crate) fn new(bootstrap: Option<&SecretString>, context: Context) -> Self {
        let bootstrap = bootstrap.map(|secret| {
            let key = ApiKey {
                id: Uuid::nil(),
                name: BOOTSTRAP_NAME.to_owned(),
                scopes: vec![KeyScope::Everything.to_string()],
                access: KeyAccess::default(),
                requests_per_minute: None,
                created_at: context.now(),
                revoked_at: None,
                expires_at: None,
                last_used_at: None,
            };
            (sha256(secret.expose_secret()), Arc::new(key))
        });
        let limiters = Cache::builder().max_capacity(CAPACITY).time_to_idle(LIMITER_IDLE).build();
        Self { bootstrap, context, unknown: Unknown::new(UNKNOWN_TTL), limiters }
    }

    /// Warns when there is no key, since the API then refuses every caller, and when a key permits everything.
    pub(crate) async fn warn(&self) -> Result<(), AuthError> {
        let keys = self.context.api_keys(&ACTOR, self.context.now()).await?;
        let now = self.context.now();
        let mut active = keys.iter().filter(|key| key.is_active(now)).peekable();
        if self.bootstrap.is_none() && active.peek().is_none() {
            tracing::warn!(
                "there is no API key, so the REST API refuses every caller; set API_KEY or run `larkauth keys create`"
            );
        }
        let unlimited: Vec<&str> = active
            .filter(|key| key.scopes.iter().any(|scope| scope == KeyScope::Everything.as_str()))
            .map(|key| key.name.as_str())
            .chain(self.bootstrap.as_ref().map(|_| BOOTSTRAP_NAME))
            .collect();
        if !unlimited.is_empty() {
            tracing::warn!(
                keys = unlimited.join(", "),
                "API keys with every scope are in use; give each caller a key of its own with `larkauth keys create`"
            );
        }
        Ok(())
    }

    /// Returns the active key with this secret if it is in memory. Waits for nothing.
    pub(crate) fn kept(&self, secret: &str) -> Option<Arc<ApiKey>> {
        let sha256 = sha256(secret);
        self.bootstrap_key(&sha256).or_else(|| self.context.kept_api_key(&sha256))
    }

    /// Returns the active key with this secret. A secret without the form of a key causes no query.
    pub(crate) async fn authenticate(&self, secret: &str) -> Result<Option<Arc<ApiKey>>, AuthError> {
        let sha256 = sha256(secret);
        if let Some(key) = self.bootstrap_key(&sha256) {
            return Ok(Some(key));
        }
        if let Some(key) = self.context.kept_api_key(&sha256) {
            return Ok(Some(key));
        }
        if !is_well_formed(secret) || self.unknown.contains(&sha256).await {
            return Ok(None);
        }
        let key = self.context.authenticate_api_key(&sha256).await?;
        if key.is_none() {
            self.unknown.insert(sha256).await;
        }
        Ok(key)
    }

    /// Returns the active key with this SHA-256, which was the key of a caller before.
    pub(crate) async fn find(&self, sha256: &[u8; 32]) -> Result<Option<Arc<ApiKey>>, AuthError> {
        match self.bootstrap_key(sha256) {
            Some(key) => Ok(Some(key)),
            None => self.context.authenticate_api_key(sha256).await,
        }
    }

    fn bootstrap_key(&self, sha256: &[u8; 32]) -> Option<Arc<ApiKey>> {
        let (_, key) = self.bootstrap.as_ref().filter(|(known, _)| known.ct_eq(sha256).into())?;
        Some(key.clone())
    }

    /// Counts a request of a key. Returns the time to wait when the key's limit is reached.
    pub(crate) async fn count(&self, key: &ApiKey) -> Result<(), Duration> {
        let Some(limit) = key.requests_per_minute else { return Ok(()) };
        let new = async { Arc::new(RateLimiter::direct(Quota::per_minute(limit))) };
        let limiter = self.limiters.get_with((key.id, limit), new).await;
        limiter.check().map_err(|early| early.wait_time_from(limiter.clock().now()))
    }
}
