//! The scope that an endpoint requires, proved before its handler runs.

use std::{marker::PhantomData, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use larkauth_contracts::problem::ProblemCode;
use larkauth_models::{Actor, KeyScope};

use crate::{problem::ApiError, state::AppState};

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
