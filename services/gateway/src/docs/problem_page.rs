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

/// Where a problem comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Caller,
    Operator,
    Person,
    Lark,
    Larkauth,
    None,
}

impl Fault {
    /// Returns whose fault it is, for people.
    const fn words(self) -> &'static str {
        match self {
            Self::Caller => "The caller's: the request has to change.",
            Self::Operator => "The operator's: settings, an application, or a part of the installation.",
            Self::Person => "The person's to decide: a new consent ends it.",
            Self::Lark => "Lark's, or the network's on the way to it.",
            Self::Larkauth => "larkauth's: a defect, or a case that it does not know.",
            Self::None => "No one's: it passes by itself.",
        }
    }
}

/// Returns where a problem comes from, and what happened.
const fn cause(code: ProblemCode) -> (Fault, &'static str) {
    match code {
        ProblemCode::InvalidRequest => (
            Fault::Caller,
            "A field of the body, the path or the query is missing, has another type, or is not a documented one.",
        ),
        ProblemCode::Unauthorized => (
            Fault::Caller,
            "The request has no API key, or one that is mistyped, unknown, revoked or past its end.",
        ),
        ProblemCode::Forbidden => (
            Fault::Caller,
            "The API key is valid and lacks the scope, the application or the scope of Lark that this request needs.",
        ),
        ProblemCode::InsufficientScope => (
            Fault::Person,
            "The person has authorized, but never granted all scopes that the caller requires.",
        ),
        ProblemCode::CallbackRejected => (
            Fault::Operator,
            "A callback came by HTTP whose signature, encryption or verification token is not that of the application. It may not be from Lark.",
        ),
        ProblemCode::NotFound => (
            Fault::Caller,
            "No route has this path. The public listener answers so to every path of the API, too.",
        ),
        ProblemCode::AppNotFound => (
            Fault::Operator,
            "The application id is well formed, and no such application is registered here.",
        ),
        ProblemCode::SessionNotFound => (
            Fault::Caller,
            "No session has this id, it was deleted after SESSION_RETENTION_DAYS, or it belongs to an application that the key may not see.",
        ),
        ProblemCode::AuthenticationRequired => (
            Fault::Person,
            "No token is stored for this person that can be served: the person never consented, declined, was suspended, was revoked, or Lark has ended the login.",
        ),
        ProblemCode::MethodNotAllowed => (Fault::Caller, "The path exists, for other methods."),
        ProblemCode::RequestTimeout => {
            (Fault::Caller, "The body of the request did not arrive completely in time.")
        }
        ProblemCode::AppDisabled => (
            Fault::Operator,
            "An operator has disabled the application. Its tokens are not served, and no person is asked.",
        ),
        ProblemCode::IdempotencyKeyReused => {
            (Fault::Caller, "The same Idempotency-Key was sent before with another body.")
        }
        ProblemCode::PayloadTooLarge => (Fault::Caller, "The body is larger than this route takes."),
        ProblemCode::UnsupportedMediaType => (Fault::Caller, "The body is not declared as JSON."),
        ProblemCode::RateLimited => (
            Fault::Caller,
            "The person was invited too often within a minute, was asked a short time ago and did not agree, or the API key has used up its requests of this minute.",
        ),
        ProblemCode::Internal => {
            (Fault::Larkauth, "An error that no other code describes. It is logged with the request_id.")
        }
        ProblemCode::AppFrozen => (
            Fault::Operator,
            "Lark refuses the application itself (wrong secret, not published, a permission withdrawn). The breaker is open: larkauth tries again every five minutes.",
        ),
        ProblemCode::RefreshInProgress => (
            Fault::None,
            "Another process refreshes this token at this moment, or its new pair is on its way to the database, and the old token is not valid any more.",
        ),
        ProblemCode::UpstreamUnavailable => (
            Fault::Lark,
            "The token is not valid any more, and Lark did not give a new one: it does not answer, limits the rate, or answers an error that passes.",
        ),
        ProblemCode::Unavailable => {
            (Fault::Operator, "The database or the broker does not answer, or the database takes no writes.")
        }
        ProblemCode::Timeout => (Fault::Operator, "The work did not end in time; it may have been done."),
    }
}

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
        ProblemCode::AppDisabled => "Switch the application on again: “larkauth apps enable”.",
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
    happened: &'static str,
    fault: &'static str,
    cure: &'static str,
}

impl Row {
    const fn of(code: ProblemCode) -> Self {
        let (fault, happened) = cause(code);
        Self {
            code: code.as_str(),
            status: code.status(),
            title: code.title(),
            happened,
            fault: fault.words(),
            cure: cure(code),
        }
    }
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
    let rows = ProblemCode::ALL.iter().map(|code| Row::of(*code)).collect();
    match (Page { rows }).render() {
        Ok(page) => Html(page).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// Returns docs/troubleshooting/problems.md: the same as a page of the manual.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for Row { code, status, title, happened, fault, cure } in
        ProblemCode::ALL.iter().map(|code| Row::of(*code))
    {
        let cure = cure.replace(['“', '”'], "`");
        page.push_str(&format!(
            "\n## {code}\n\nHTTP {status}: {title}.\n\n- **What happened:** {happened}\n- **Whose fault:** {fault}\n- **What to do:** {cure}\n"
        ));
    }
    page
}

/// Beginning of the manual's page.
const HEAD: &str = "# Problem codes

Generated from the code; edit `services/gateway/src/docs/problem_page.rs`.

Every error of the REST API is an `application/problem+json` document (RFC 9457). Its `code` is stable; `detail` says what happened in this
case; `request_id` finds the line in the log. `Retry-After` says when to try again, where that makes sense. The gateway shows this
page at `/docs/problems`.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn page_lists_every_code_with_its_cure() {
        let rows: Vec<_> = ProblemCode::ALL.iter().map(|code| (code.as_str(), cure(*code))).collect();
        let manual = markdown();
        let page = axum::body::to_bytes(page().into_body(), usize::MAX).await.unwrap();
        let page = String::from_utf8(page.to_vec()).unwrap();
        for (code, cure) in rows {
            assert!(page.contains(&format!("id=\"{code}\"")) && cure.len() > 20, "{code}");
            assert!(manual.contains(&format!("\n## {code}\n\nHTTP ")), "{code}");
        }
    }
}
