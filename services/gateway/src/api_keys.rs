use std::{sync::Arc, time::Duration};

use larkauth_auth::{AuthError, Context};
use larkauth_models::{ExposeSecret, KeyScope, SecretString};
use larkauth_storage::ApiKey;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::actor::ACTOR;

/// Life of a cached key, known or unknown: 10 s. A revoked key works no longer than this.
const CACHE_TTL: Duration = Duration::from_secs(10);
/// Most keys that are cached.
const CACHE_CAPACITY: u64 = 10_000;
/// Name of the bootstrap key, which has no row and no id.
const BOOTSTRAP_NAME: &str = "API_KEY";

/// The API keys, recent ones cached.
pub(crate) struct ApiKeys {
    /// The key of the setting `API_KEY`, with its SHA-256.
    bootstrap: Option<([u8; 32], Arc<ApiKey>)>,
    context: Context,
    cache: Cache<[u8; 32], Option<Arc<ApiKey>>>,
}

impl ApiKeys {
    pub(crate) fn new(bootstrap: Option<&SecretString>, context: Context) -> Self {
        let bootstrap = bootstrap.map(|secret| {
            let key = ApiKey {
                id: Uuid::nil(),
                name: BOOTSTRAP_NAME.to_owned(),
                scopes: vec![KeyScope::Everything.to_string()],
                created_at: context.now(),
                revoked_at: None,
            };
            (Sha256::digest(secret.expose_secret().as_bytes()).into(), Arc::new(key))
        });
        let cache = Cache::builder().max_capacity(CACHE_CAPACITY).time_to_live(CACHE_TTL).build();
        Self { bootstrap, context, cache }
    }

    /// Warns when there is no key, since the API then refuses every caller.
    pub(crate) async fn warn_if_none(&self) -> Result<(), AuthError> {
        if self.bootstrap.is_some() {
            return Ok(());
        }
        let keys = self.context.api_keys(&ACTOR, self.context.now()).await?;
        if !keys.iter().any(|key| key.revoked_at.is_none()) {
            tracing::warn!(
                "there is no API key, so the REST API refuses every caller; set API_KEY or run `larkauth keys create`"
            );
        }
        Ok(())
    }

    /// Returns the active key with this SHA-256.
    pub(crate) async fn authenticate(&self, sha256: &[u8; 32]) -> Result<Option<Arc<ApiKey>>, AuthError> {
        if let Some((_, key)) = self.bootstrap.as_ref().filter(|(known, _)| known.ct_eq(sha256).into()) {
            return Ok(Some(key.clone()));
        }
        if let Some(cached) = self.cache.get(sha256).await {
            return Ok(cached);
        }
        let found = self.context.authenticate_api_key(sha256).await?.map(Arc::new);
        self.cache.insert(*sha256, found.clone()).await;
        Ok(found)
    }
}
