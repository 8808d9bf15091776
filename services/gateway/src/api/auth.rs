//! API keys and their scopes.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use larkauth_auth::{AuthError, Context};
use larkauth_contracts::problem::ProblemCode;
use larkauth_models::{Actor, ExposeSecret, KeyScope, SecretString};
use larkauth_storage::ApiKey;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{gateway::Gateway, problem::ApiError};

/// This service, where it acts on its own.
pub(crate) const ACTOR: Actor = Actor::Service("gateway");

/// Life of a cached key, known or unknown: 10 s. A revoked key works no longer than this.
const CACHE_TTL: Duration = Duration::from_secs(10);
/// Most keys that are cached.
const CACHE_CAPACITY: u64 = 10_000;
/// Name of the bootstrap key, which has no row and no id.
const BOOTSTRAP_NAME: &str = "API_KEY";

/// The scope that an endpoint requires of the caller's key, as a type.
pub(crate) trait Scope {
    /// The same as a value.
    const SCOPE: KeyScope;
}

macro_rules! scopes {
    ($($name:ident),+) => {
        $(
            #[doc = concat!("[`KeyScope::", stringify!($name), "`]")]
            pub(crate) struct $name;
            impl Scope for $name {
                const SCOPE: KeyScope = KeyScope::$name;
            }
        )+
    };
}
scopes!(SessionsRead, SessionsWrite, TokensRead);

/// Proof that the caller's API key has the scope `S`, with the key's id and name. The first argument of every handler of
/// the API.
pub(crate) struct RequireScope<S> {
    /// The caller.
    pub(crate) actor: Actor,
    scope: PhantomData<S>,
}

impl<S: Scope> FromRequestParts<Arc<Gateway>> for RequireScope<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, ApiError> {
        let Some(key) = bearer(&parts.headers) else {
            return Err(unauthorized(
                "Send `Authorization: Bearer <API key>`; the operator makes keys with `larkauth keys create`",
                "Bearer realm=\"larkauth\"",
            ));
        };
        let sha256 = Sha256::digest(key.as_bytes()).into();
        match gateway.api_keys.authenticate(&sha256).await? {
            Some(key) if S::SCOPE.is_among(&key.scopes) => {
                let actor = Actor::ApiKey { id: key.id, name: key.name.clone() };
                Ok(Self { actor, scope: PhantomData })
            }
            Some(_) => {
                let detail = format!("The API key lacks the scope `{}`", S::SCOPE);
                // RFC 6750.
                let challenge = format!(
                    "Bearer realm=\"larkauth\", error=\"insufficient_scope\", scope=\"{}\"",
                    S::SCOPE
                );
                Err(ApiError::new(ProblemCode::Forbidden, detail).challenge(challenge))
            }
            None => Err(unauthorized(
                "The API key is unknown or was revoked",
                "Bearer realm=\"larkauth\", error=\"invalid_token\"",
            )),
        }
    }
}

fn unauthorized(detail: &str, challenge: &'static str) -> ApiError {
    ApiError::new(ProblemCode::Unauthorized, detail).challenge(challenge)
}

/// The key of `Authorization: Bearer …`, if it has a sensible form.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (1..=512).contains(&key.len())).then_some(key)
}

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
    async fn authenticate(&self, sha256: &[u8; 32]) -> Result<Option<Arc<ApiKey>>, AuthError> {
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn bearer_of_other_schemes_is_none() {
        let key = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(key("bearer abc").as_deref(), Some("abc"));
        assert_eq!([key("Basic abc"), key("Bearer "), key("Bearer"), key("")], [None, None, None, None]);
    }
}
