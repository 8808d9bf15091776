//! Who may do what: API keys and their scopes.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use larkauth_contracts::problem::ProblemCode;
use larkauth_models::{ExposeSecret, KeyScope, SecretString};
use larkauth_storage::{ApiKey, StorageError, Store};
use moka::future::Cache;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{gateway::Gateway, problem::ApiError};

/// How long a key is believed (or disbelieved) without a look at the store; a revoked one works no longer than this.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
const REMEMBERED: u64 = 10_000;

/// What an endpoint asks of the caller's key, as a type.
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

/// Proof that the caller's API key has the scope `S`. The first argument of every handler of the API.
pub(crate) struct Allowed<S>(PhantomData<S>);

impl<S: Scope> FromRequestParts<Arc<Gateway>> for Allowed<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, ApiError> {
        let Some(key) = bearer(&parts.headers) else {
            return Err(unauthorized(
                "Send `Authorization: Bearer <API key>`; the operator makes keys with `larkauth keys create`",
                "Bearer realm=\"larkauth\"",
            ));
        };
        let sha256 = Sha256::digest(key.as_bytes()).into();
        match gateway.keys.scopes_of(&sha256).await? {
            Some(scopes) if S::SCOPE.is_among(&scopes) => Ok(Self(PhantomData)),
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

/// The API keys there are.
pub(crate) struct Keys {
    /// SHA-256 of `API_KEY`.
    bootstrap: Option<[u8; 32]>,
    store: Arc<dyn Store>,
    recent: Cache<[u8; 32], Option<Arc<ApiKey>>>,
}

impl Keys {
    pub(crate) fn new(bootstrap: Option<&SecretString>, store: Arc<dyn Store>) -> Self {
        Self {
            bootstrap: bootstrap.map(|key| Sha256::digest(key.expose_secret().as_bytes()).into()),
            store,
            recent: Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED_FOR).build(),
        }
    }

    /// Says so when nobody can use the API.
    pub(crate) async fn warn_if_none(&self) -> Result<(), StorageError> {
        if self.bootstrap.is_none()
            && !self.store.api_keys().await?.iter().any(|key| key.revoked_at.is_none())
        {
            tracing::warn!(
                "there is no API key, so the REST API refuses everybody; set API_KEY or run `larkauth keys create`"
            );
        }
        Ok(())
    }

    /// What the key may do; `None` for an unknown key.
    async fn scopes_of(&self, sha256: &[u8; 32]) -> Result<Option<Vec<String>>, StorageError> {
        if self.bootstrap.is_some_and(|bootstrap| bootstrap.ct_eq(sha256).into()) {
            return Ok(Some(vec![KeyScope::Everything.to_string()]));
        }
        let key = match self.recent.get(sha256).await {
            Some(known) => known,
            None => {
                let found = self.store.api_key(sha256).await?.map(Arc::new);
                self.recent.insert(*sha256, found.clone()).await;
                found
            }
        };
        Ok(key.map(|key| key.scopes.clone()))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_bearer_keys_are_taken() {
        let key = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(key("bearer abc").as_deref(), Some("abc"));
        assert_eq!([key("Basic abc"), key("Bearer "), key("Bearer"), key("")], [None, None, None, None]);
    }
}
