//! `/v1/apps/{app_id}/users/{open_id}/token`.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::TimeDelta;
use larkauth_auth::{AuthError, sessions::Invite};
use larkauth_contracts::{
    problem::ProblemCode,
    rest::{OnMissing, TokenQuery, TokenView},
};
use larkauth_models::{Actor, AppId, AuthMethod, ExposeSecret, OpenId, Person, StoredToken};

use super::require_scope::{RequireScope, TokensRead};
use crate::{
    extract::{PathOf, QueryOf, issued},
    problem::{ApiError, TokenProblems},
    state::AppState,
};

const MAX_VALIDITY: u32 = 3600;

/// Take a person's token
///
/// A stored token that is valid for at least `min_validity` more seconds. Keep it no longer than `expires_at`. Needs the
/// scope `tokens:read`.
#[utoipa::path(
    get, path = "/v1/apps/{app_id}/users/{open_id}/token", operation_id = "get_token", tag = "tokens", security(("api_key" = [])),
    params(
        ("app_id" = String, Path, description = "The application"),
        ("open_id" = String, Path, description = "The person, as this application sees them"),
        TokenQuery,
    ),
    responses((status = 200, description = "The token", body = TokenView), TokenProblems),
)]
pub(super) async fn get(
    caller: RequireScope<TokensRead>,
    State(state): State<Arc<AppState>>,
    PathOf((app_id, open_id)): PathOf<(String, String)>,
    QueryOf(query): QueryOf<TokenQuery>,
) -> Result<Json<TokenView>, ApiError> {
    let (app_id, open_id): (AppId, OpenId) = (app_id.parse()?, issued(open_id.parse()?)?);
    tracing::Span::current().record("app_id", tracing::field::display(&app_id));
    if query.min_validity > MAX_VALIDITY {
        return Err(ApiError::invalid(format!("min_validity: at most {MAX_VALIDITY} (seconds)")));
    }
    let min_validity = TimeDelta::seconds(query.min_validity.into());
    let context = &state.context;
    match context.valid_token(&caller.actor, context.now(), &app_id, &open_id, min_validity).await {
        Ok(token) => Ok(Json(view(&token))),
        Err(AuthError::AuthenticationRequired) if query.on_missing == OnMissing::Card => {
            Err(invite(&state, &caller.actor, app_id, open_id).await)
        }
        Err(AuthError::AuthenticationRequired) => {
            Err(missing("Ask for consent with POST /v1/auth/sessions, or here with on_missing=card"))
        }
        Err(error) => Err(error.into()),
    }
}

fn missing(detail: &str) -> ApiError {
    ApiError::new(ProblemCode::AuthenticationRequired, detail)
}

/// Asks the person, and says so.
async fn invite(state: &AppState, actor: &Actor, app_id: AppId, open_id: OpenId) -> ApiError {
    let context = &state.context;
    let invite = Invite {
        app_id,
        person: Person { open_id: Some(open_id), user_id: None },
        auth_method: AuthMethod::WebsocketCard,
        scopes: None,
        card: context.policy().card.clone(),
    };
    match context.invite_unless_open(actor, context.now(), invite).await {
        Ok(session) => {
            tracing::Span::current().record("session_id", tracing::field::display(session.id));
            missing("This person has an open card, or one is on its way; the session shows how it goes")
                .with_session(session.id)
        }
        Err(error @ AuthError::RateLimited { retry_after, .. }) => {
            missing(&format!("No card was sent: {error}")).retry_after(retry_after)
        }
        Err(error) => error.into(),
    }
}

fn view(token: &StoredToken) -> TokenView {
    TokenView {
        access_token: token.pair.access_token.expose_secret().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_at: token.pair.access_expires_at,
        scopes: token.pair.scopes.clone(),
        generation: token.generation,
    }
}
