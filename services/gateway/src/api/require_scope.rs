//! The scope that an endpoint requires, proved before its handler runs.

use std::{marker::PhantomData, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};
use larkauth_contracts::problem::ProblemCode;
use larkauth_models::{Actor, KeyScope, Origin, Principal};
use larkauth_storage::ApiKey;

use crate::{
    client_address::client_address,
    middleware::RequestId,
    problem::{ApiError, INVALID_KEY},
    state::AppState,
};

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
scopes!(SessionsRead, SessionsWrite, TokensRead, AuditRead);

/// The request is in the count of its key already.
#[derive(Clone, Copy)]
pub(crate) struct Counted;

/// Proof that the caller's API key has the scope `S`, with the key's id and name. The first argument of every handler of
/// the API.
pub(crate) struct RequireScope<S> {
    /// The caller.
    pub(crate) actor: Actor,
    scope: PhantomData<S>,
}

impl<S: Scope> FromRequestParts<Arc<AppState>> for RequireScope<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<AppState>) -> Result<Self, ApiError> {
        let Some(key) = bearer(&parts.headers) else {
            return Err(unauthorized(
                "Send `Authorization: Bearer <API key>`; the operator makes keys with `larkauth keys create`",
                "Bearer realm=\"larkauth\"",
            ));
        };
        match state.api_keys.authenticate(key).await? {
            Some(key) if S::SCOPE.is_among(&key.scopes) => {
                if parts.extensions.get::<Counted>().is_none() {
                    state.api_keys.count(&key).await.map_err(too_many)?;
                }
                Ok(Self { actor: actor(&key, parts, state), scope: PhantomData })
            }
            Some(key) => {
                let context = &state.context;
                context.note_denied(&actor(&key, parts, state), context.now(), S::SCOPE);
                let detail = format!("The API key lacks the scope `{}`", S::SCOPE);
                // RFC 6750.
                let challenge = format!(
                    "Bearer realm=\"larkauth\", error=\"insufficient_scope\", scope=\"{}\"",
                    S::SCOPE
                );
                Err(ApiError::new(ProblemCode::Forbidden, detail).challenge(challenge))
            }
            None => Err(unauthorized("The API key is unknown, expired or was revoked", INVALID_KEY)),
        }
    }
}

/// Returns the caller, with the address and the id of the request.
pub(crate) fn actor(key: &ApiKey, parts: &Parts, state: &AppState) -> Actor {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    let address = peer.map(|peer| client_address(peer, &parts.headers, &state.trusted_proxies).to_string());
    let request_id = parts.extensions.get::<RequestId>().map(|RequestId(id)| id.clone());
    let principal = Principal::ApiKey { id: key.id, name: key.name.clone(), access: key.access.clone() };
    Actor { principal, origin: Origin { address, request_id } }
}

fn unauthorized(detail: &str, challenge: &'static str) -> ApiError {
    ApiError::new(ProblemCode::Unauthorized, detail).challenge(challenge)
}

pub(crate) fn too_many(wait: Duration) -> ApiError {
    ApiError::new(ProblemCode::RateLimited, "This API key has sent more requests than it may in a minute")
        .retry_after(wait)
}

/// The key of `Authorization: Bearer …`, if it has a sensible form.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (1..=512).contains(&key.len())).then_some(key)
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
