//! `/docs/problems`: what each code means, and the cure. A document's `type` points here.

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use larkauth_contracts::problem::ProblemCode;

use crate::{problem::ApiError, state::AppState};

/// What a caller or an operator does about it.
const fn cure(code: ProblemCode) -> &'static str {
    match code {
        ProblemCode::InvalidRequest => {
            "Read detail: it names the field and what is expected there. Do not repeat the request unchanged."
        }
        ProblemCode::Unauthorized => {
            "Send “Authorization: Bearer” with an API key that was not revoked. The operator makes one with “larkauth keys create”, or sets API_KEY."
        }
        ProblemCode::Forbidden => "Use a key that has the scope named in detail.",
        ProblemCode::CallbackRejected => {
            "The service's log says what could not be verified. Compare the verification token and the encrypt key with the developer console, and the clock with a time server."
        }
        ProblemCode::NotFound => "Compare the path with the list at /docs.",
        ProblemCode::AppNotFound => {
            "Register the application: set APP_ID and APP_SECRET, or run “larkauth apps add”."
        }
        ProblemCode::SessionNotFound => {
            "Compare the id with the one that was answered when the session was created."
        }
        ProblemCode::AuthenticationRequired => {
            "Ask the person: POST /v1/auth/sessions, or on_missing=card. If session_id is there, a card is on its way; follow that session."
        }
        ProblemCode::InsufficientScope => {
            "missing_scopes names them. Ask the person: POST /v1/auth/sessions with these scopes, or on_missing=card. If session_id is there, a card is on its way."
        }
        ProblemCode::MethodNotAllowed => "Use one of the methods of the Allow header.",
        ProblemCode::AppDisabled => "Switch the application on again.",
        ProblemCode::IdempotencyKeyReused => {
            "Send the same body as the first time, or a new Idempotency-Key for a new request."
        }
        ProblemCode::PayloadTooLarge => "Send less; detail names the limit.",
        ProblemCode::RequestTimeout => {
            "Send the whole body at once; look at the network between the caller and the service."
        }
        ProblemCode::UnsupportedMediaType => "Send JSON, with “Content-Type: application/json”.",
        ProblemCode::RateLimited => {
            "Wait as long as Retry-After says. The operator sets the limit with AUTH_REQUEST_RATE_LIMIT."
        }
        ProblemCode::Internal => "Give the request_id to the operator, who finds the cause in the log.",
        ProblemCode::AppFrozen => {
            "The operator corrects the application in Lark's developer console (secret, scopes, availability). Until then no person is invited; stored tokens are still served."
        }
        ProblemCode::RefreshInProgress => "Try again after Retry-After; the new token is nearly there.",
        ProblemCode::UpstreamUnavailable => {
            "Try again after Retry-After. The login is not lost; the operator looks at the log and at Lark's status."
        }
        ProblemCode::Unavailable => {
            "Try again after Retry-After. The operator looks at /health, which names the part that is down."
        }
        ProblemCode::Timeout => "Try again. If it stays, the operator looks at /health and the metrics.",
    }
}

struct Row {
    code: &'static str,
    status: u16,
    title: &'static str,
    cure: &'static str,
}

#[derive(Template)]
#[template(path = "problems.html")]
struct Page {
    rows: Vec<Row>,
}

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new().route("/docs/problems", get(|| async { page() }))
}

fn page() -> Response {
    let rows = ProblemCode::ALL
        .iter()
        .map(|code| Row {
            code: code.as_str(),
            status: code.status(),
            title: code.title(),
            cure: cure(*code),
        })
        .collect();
    match (Page { rows }).render() {
        Ok(page) => Html(page).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn page_lists_every_code_with_its_cure() {
        let rows: Vec<_> = ProblemCode::ALL.iter().map(|code| (code.as_str(), cure(*code))).collect();
        let page = axum::body::to_bytes(page().into_body(), usize::MAX).await.unwrap();
        let page = String::from_utf8(page.to_vec()).unwrap();
        for (code, cure) in rows {
            assert!(page.contains(&format!("id=\"{code}\"")) && cure.len() > 20, "{code}");
        }
    }
}
