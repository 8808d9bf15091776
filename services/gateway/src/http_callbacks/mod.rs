//! The HTTP twin of the long connection: `POST /lark/callback/{app_id}`, and `/lark/callback` while there is one
//! application.
//!
//! A verified callback is always taken: Lark sends it here because the developer console says so, also when the long
//! connection seems open. An event that cannot be kept is refused with 503, so that Lark pushes it again. No callback is
//! taken from a disabled application; the answer to a click tells the person so.

mod sent;

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use larkauth_auth::{AuthError, callbacks::of_disabled_application};
use larkauth_contracts::problem::{Problem, ProblemCode};
use larkauth_lark::callback::{Callback, CallbackError};
use larkauth_models::AppId;
use serde_json::json;
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{actor::ACTOR, extract::PathOf, problem::ApiError, state::AppState};

pub(crate) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new().routes(routes!(callback)).routes(routes!(only_callback))
}

/// Callbacks of one application
///
/// The request address to enter in Lark's developer console.
#[utoipa::path(
    post, path = "/lark/callback/{app_id}", operation_id = "lark_callback", tag = "lark",
    params(("app_id" = String, Path, description = "The application")),
    request_body(content = serde_json::Value, description = "As Lark sends it, encrypted or plain"),
    responses(
        (status = 200, description = "The answer for Lark: a challenge, a toast, a card", body = serde_json::Value),
        (status = 403, description = "`callback_rejected`: the callback cannot be verified", body = Problem, content_type = "application/problem+json"),
        (status = 400, description = "`invalid_request`: no application id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`app_not_found`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`request_timeout`: the body came too slowly", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`service_unavailable`: to be pushed again", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn callback(
    State(state): State<Arc<AppState>>,
    PathOf(app_id): PathOf<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let received_at = Instant::now();
    let app_id: AppId = app_id.parse()?;
    take(&state, &app_id, received_at, &headers, &body).await
}

/// Callbacks of the only application
///
/// As `/lark/callback/{app_id}`, while exactly one application is switched on.
#[utoipa::path(
    post, path = "/lark/callback", operation_id = "lark_callback_of_the_only_application", tag = "lark",
    request_body(content = serde_json::Value, description = "As Lark sends it, encrypted or plain"),
    responses(
        (status = 200, description = "The answer for Lark: a challenge, a toast, a card", body = serde_json::Value),
        (status = 403, description = "`callback_rejected`: the callback cannot be verified", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: there is not exactly one application", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`request_timeout`: the body came too slowly", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`service_unavailable`: to be pushed again", body = Problem, content_type = "application/problem+json"),
    ),
)]
async fn only_callback(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let received_at = Instant::now();
    let applications = state.context.applications(&ACTOR, state.context.now()).await?;
    let mut enabled = applications.into_iter().filter(|app| app.enabled);
    let (Some(only), None) = (enabled.next(), enabled.next()) else {
        return Err(ApiError::new(
            ProblemCode::NotFound,
            "This address serves one application; there are several or none, so use /lark/callback/{app_id}",
        ));
    };
    take(&state, &only.app_id, received_at, &headers, &body).await
}

async fn take(
    state: &Arc<AppState>,
    app_id: &AppId,
    received_at: Instant,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, ApiError> {
    tracing::Span::current().record("app_id", tracing::field::display(app_id));
    let app = state.context.any_app(&ACTOR, state.context.now(), app_id).await?;
    let verifier = state.verifiers.of(&app.application).await;
    let payload = match verifier.verify(headers, body).map_err(|error| refused(app_id, error))? {
        Callback::Challenge(challenge) => return Ok(Json(json!({ "challenge": challenge })).into_response()),
        Callback::Event(payload) => payload,
    };
    if !app.application.enabled {
        let answer =
            of_disabled_application(&payload).ok_or_else(|| AuthError::AppDisabled(app_id.clone()))?;
        return Ok(Json(answer).into_response());
    }
    let answered = state.callbacks.handle(app_id, &payload, received_at).await;
    let answer = answered.answer.ok_or_else(push_again)?;
    verifier.mark_processed(headers);
    let response = Json(answer).into_response();
    Ok(match answered.shows {
        Some(shown) => sent::notify_when_sent(response, state.callbacks.clone(), app_id.clone(), shown),
        None => response,
    })
}

/// A stranger learns nothing; the operator reads in the log what is wrong, and the cure.
fn refused(app_id: &AppId, error: CallbackError) -> ApiError {
    let detail = "The callback cannot be verified; the log of the service says why";
    ApiError::new(ProblemCode::CallbackRejected, detail)
        .caused_by(format_args!("callback of {app_id}: {error}"))
}

fn push_again() -> ApiError {
    ApiError::unavailable("The event was not taken; push it again later")
}
