use std::{sync::Arc, time::Duration};

use larkauth_auth::{AuthError, Context, api_keys::has_key_form};
use larkauth_models::{ExposeSecret, KeyScope, SecretString};
use larkauth_storage::ApiKey;
use moka::future::Cache;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{
    actor::ACTOR,
    unknown::{Unknown, sha256},
};

/// Life of a cached key: 10 s. A revoked key works no longer than this.
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
    known: Cache<[u8; 32], Arc<ApiKey>>,
    unknown: Unknown,
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
            (sha256(secret.expose_secret()), Arc::new(key))
        });
        let known = Cache::builder().max_capacity(CACHE_CAPACITY).time_to_live(CACHE_TTL).build();
        Self { bootstrap, context, known, unknown: Unknown::default() }
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

    /// Returns the active key with this secret. The store is asked only for a secret of the form of a key.
    pub(crate) async fn authenticate(&self, secret: &str) -> Result<Option<Arc<ApiKey>>, AuthError> {
        let sha256 = sha256(secret);
        if let Some((_, key)) = self.bootstrap.as_ref().filter(|(known, _)| known.ct_eq(&sha256).into()) {
            return Ok(Some(key.clone()));
        }
        if !has_key_form(secret) || self.unknown.contains(&sha256).await {
            return Ok(None);
        }
        if let Some(key) = self.known.get(&sha256).await {
            return Ok(Some(key));
        }
        let Some(key) = self.context.authenticate_api_key(&sha256).await?.map(Arc::new) else {
            self.unknown.insert(sha256).await;
            return Ok(None);
        };
        self.known.insert(sha256, key.clone()).await;
        Ok(Some(key))
    }
}
