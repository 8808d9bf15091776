//! `/v1/apps/{app_id}/users/{open_id}/token`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use larkauth_auth::{
    AuthError,
    sessions::{Invite, scopes_to_ask_for},
};
use larkauth_contracts::{
    problem::ProblemCode,
    rest::{OnMissing, RefreshToken, TokenQuery, TokenView},
};
use larkauth_models::{Actor, AppId, AuthMethod, ExposeSecret, OpenId, Person, StoredToken};

use super::require_scope::{RequireScope, SessionsWrite, TokensRead};
use crate::{
    extract::{JsonBody, PathOf, QueryOf, issued},
    problem::{ApiError, TokenProblems},
    state::AppState,
};

const MAX_VALIDITY: u32 = 3600;
/// About the size of an answer without the token.
const BESIDE_THE_TOKEN: usize = 512;
const JSON: &str = "application/json";

/// Take a person's token
///
/// A stored token that is valid for at least `min_validity` more seconds and has the required `scopes`. One of which
/// little is left is refreshed first; while that fails, it is served as long as it is valid. Keep it no longer than `expires_at`. Needs the
/// scope `tokens:read`.
///
/// What is served was stored at most one second ago: a token that was revoked, or a newer one, is seen by then. The answer has
/// an `ETag`; with it in `If-None-Match`, the answer is 304 while the token has not changed.
#[utoipa::path(
    get, path = "/v1/apps/{app_id}/users/{open_id}/token", operation_id = "get_token", tag = "tokens", security(("api_key" = [])),
    params(
        ("app_id" = String, Path, description = "The application"),
        ("open_id" = String, Path, description = "The person, as this application sees them"),
        TokenQuery,
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of the token that the caller has"),
    ),
    responses(
        (status = 200, description = "The token", body = TokenView, headers(("ETag" = String, description = "Names this token"))),
        (status = 304, description = "The caller has the token already"),
        TokenProblems,
    ),
)]
pub(super) async fn get(
    caller: RequireScope<TokensRead>,
    State(state): State<Arc<AppState>>,
    PathOf((app_id, open_id)): PathOf<(String, String)>,
    QueryOf(query): QueryOf<TokenQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (app_id, open_id): (AppId, OpenId) = (app_id.parse()?, issued(open_id.parse()?)?);
    tracing::Span::current().record("app_id", tracing::field::display(&app_id));
    if query.min_validity > MAX_VALIDITY {
        return Err(ApiError::invalid(format!("min_validity: at most {MAX_VALIDITY} (seconds)")));
    }
    let min_validity = TimeDelta::seconds(query.min_validity.into());
    let required: Vec<String> = query.scopes.split_whitespace().map(str::to_owned).collect();
    let (context, actor) = (&state.context, &caller.actor);
    let served = context.valid_token(actor, context.now(), &app_id, &open_id, min_validity, &required).await;
    let (problem, ask_for) = match served {
        Ok(token) => return answer(&token, &headers),
        Err(error @ AuthError::AuthenticationRequired) => {
            let defaults = match required.is_empty() {
                true => None,
                false => Some(Box::pin(context.enabled_app(actor, context.now(), &app_id)).await?),
            };
            let ask_for = defaults.map(|app| scopes_to_ask_for(&app.application.default_scopes, &required));
            (refused(error), ask_for)
        }
        Err(AuthError::InsufficientScope { missing, ask_for }) => {
            (ApiError::new(ProblemCode::InsufficientScope, NOT_ASKED).missing_scopes(missing), Some(ask_for))
        }
        Err(error) => return Err(error.into()),
    };
    match query.on_missing {
        OnMissing::None => Err(problem),
        OnMissing::Card => Err(Box::pin(ask(&state, actor, app_id, open_id, ask_for, problem)).await),
    }
}

/// Refresh a person's token
///
/// Returns a token of a newer generation than the caller's, for example after Lark refused the old one. Needs the scope
/// `tokens:read`.
#[utoipa::path(
    post, path = "/v1/apps/{app_id}/users/{open_id}/token/refresh", operation_id = "refresh_token", tag = "tokens", security(("api_key" = [])),
    params(
        ("app_id" = String, Path, description = "The application"),
        ("open_id" = String, Path, description = "The person, as this application sees them"),
    ),
    request_body = RefreshToken,
    responses((status = 200, description = "The token", body = TokenView), TokenProblems),
)]
pub(super) async fn refresh(
    caller: RequireScope<TokensRead>,
    State(state): State<Arc<AppState>>,
    PathOf((app_id, open_id)): PathOf<(String, String)>,
    JsonBody(RefreshToken { generation }): JsonBody<RefreshToken>,
) -> Result<Json<TokenView>, ApiError> {
    let (app_id, open_id): (AppId, OpenId) = (app_id.parse()?, issued(open_id.parse()?)?);
    tracing::Span::current().record("app_id", tracing::field::display(&app_id));
    let context = &state.context;
    let token = context.refresh_token(&caller.actor, context.now(), &app_id, &open_id, generation).await?;
    Ok(Json(view(&token)?))
}

/// Forget a person's token
///
/// Deletes the token and ends its refreshing. Lark is not told: the access token itself lives to its end. The person can
/// consent again. Needs the scope `sessions:write`.
#[utoipa::path(
    delete, path = "/v1/apps/{app_id}/users/{open_id}/token", operation_id = "forget_token", tag = "tokens", security(("api_key" = [])),
    params(
        ("app_id" = String, Path, description = "The application"),
        ("open_id" = String, Path, description = "The person, as this application sees them"),
    ),
    responses((status = 204, description = "There is no token any more"), TokenProblems),
)]
pub(super) async fn forget(
    caller: RequireScope<SessionsWrite>,
    State(state): State<Arc<AppState>>,
    PathOf((app_id, open_id)): PathOf<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (app_id, open_id): (AppId, OpenId) = (app_id.parse()?, issued(open_id.parse()?)?);
    tracing::Span::current().record("app_id", tracing::field::display(&app_id));
    let context = &state.context;
    context.revoke_token(&caller.actor, context.now(), &app_id, &open_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

const NOT_ASKED: &str = "Ask for consent with POST /v1/auth/sessions, or here with on_missing=card";

/// The refusal of a read that sends no card.
pub(crate) fn refused(error: AuthError) -> ApiError {
    match error {
        AuthError::AuthenticationRequired => ApiError::new(ProblemCode::AuthenticationRequired, NOT_ASKED),
        error => error.into(),
    }
}

/// Asks the person, and says so in the problem.
async fn ask(
    state: &AppState,
    actor: &Actor,
    app_id: AppId,
    open_id: OpenId,
    scopes: Option<Vec<String>>,
    problem: ApiError,
) -> ApiError {
    let context = &state.context;
    let invite = Invite {
        app_id,
        person: Person { open_id: Some(open_id), user_id: None },
        auth_method: AuthMethod::WebsocketCard,
        scopes,
        card: context.policy().card.clone(),
    };
    match context.invite_unless_asked(actor, context.now(), invite).await {
        Ok(session) => {
            tracing::Span::current().record("session_id", tracing::field::display(session.id));
            problem
                .detail("This person has an open card, or one is on its way; the session shows how it goes")
                .with_session(session.id)
        }
        Err(
            error @ (AuthError::RateLimited { retry_after, .. } | AuthError::AskedRecently { retry_after }),
        ) => problem.detail(format!("No card was sent: {error}")).retry_after(retry_after),
        Err(error) => error.into(),
    }
}

/// The token, or that the caller has it.
pub(crate) fn answer(token: &StoredToken, headers: &HeaderMap) -> Result<Response, ApiError> {
    let etag = etag(token);
    let tag = [(header::ETAG, etag.as_str())];
    if names(headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    let view = view(token)?;
    let mut body = Vec::with_capacity(view.access_token.len() + BESIDE_THE_TOKEN);
    serde_json::to_writer(&mut body, &view).map_err(ApiError::internal)?;
    Ok((tag, [(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// Names a token without telling anything of it. The generation begins anew after an erasure, the time does not.
fn etag(token: &StoredToken) -> String {
    format!("\"{}-{:x}\"", token.generation, token.issued_at.timestamp_micros())
}

/// Returns whether `If-None-Match` has this tag (RFC 9110, section 13.1.2).
fn names(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

fn view(token: &StoredToken) -> Result<TokenView, ApiError> {
    let secret = token.pair.access_token.readable();
    let secret = secret.ok_or_else(|| ApiError::internal("a token that cannot be read was to be served"))?;
    Ok(TokenView {
        access_token: secret.expose_secret().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_at: token.pair.access_expires_at,
        scopes: token.pair.scopes.clone(),
        generation: token.generation,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn names_finds_tag_in_any_header_weak_or_strong() {
        let has = |values: &[&'static str]| {
            let values = values.iter().map(|value| (header::IF_NONE_MATCH, HeaderValue::from_static(value)));
            names(&values.collect(), "\"2-a\"")
        };
        assert!(has(&["\"2-a\""]) && has(&["W/\"2-a\""]) && has(&["*"]));
        assert!(has(&["\"1-a\", \"2-a\""]) && has(&["\"1-a\"", "\"2-a\""]));
        assert!(!has(&[]) && !has(&["2-a"]) && !has(&["\"2-ab\""]) && !has(&["\"1-a\""]));
    }
}
