//! Every error answer: an RFC 9457 document for the caller, one log line for the operator.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use larkauth_auth::AuthError;
use larkauth_contracts::problem::{Problem, ProblemCode};
use larkauth_messaging::BusError;
use larkauth_models::{IdError, SessionId};
use larkauth_storage::StorageError;
use tokio::time::Instant;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// After so many seconds a part that is down may be back.
const COME_BACK_AFTER: u64 = 5;

/// Why a request was not served.
#[derive(Clone, Debug)]
pub(crate) struct ApiError(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    problem: Problem,
    /// For the operator only.
    cause: Option<String>,
    /// `WWW-Authenticate`.
    challenge: Option<String>,
}

impl ApiError {
    /// With what happened here and what to do.
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner { problem: code.document(Some(detail.into())), cause: None, challenge: None }))
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::InvalidRequest, detail)
    }

    /// A mistake of ours; the cause is for the log.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(ProblemCode::Internal, "Tell the operator the request_id; the service's log says more")
            .caused_by(cause)
    }

    /// A part is down that will be back.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::Unavailable, detail).retry_after(Duration::from_secs(COME_BACK_AFTER))
    }

    pub(crate) fn caused_by(mut self, cause: impl std::fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.0.problem.retry_after = Some(whole.max(1));
        self
    }

    pub(crate) fn with_session(mut self, session_id: SessionId) -> Self {
        self.0.problem.session_id = Some(session_id);
        self
    }

    pub(crate) fn challenge(mut self, challenge: impl Into<String>) -> Self {
        self.0.challenge = Some(challenge.into());
        self
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Storage(error) => return error.into(),
            AuthError::Bus(ref bus) => {
                return match bus {
                    BusError::Unavailable { .. } | BusError::Refused { .. } => {
                        Self::unavailable("The message broker is not available; try again later")
                            .caused_by(bus)
                    }
                    BusError::Topology(_) | BusError::Encode(_) => Self::internal(bus),
                };
            }
            AuthError::Lark(error) => {
                return Self::unavailable("Lark is not available; try again later").caused_by(error);
            }
            AuthError::Cipher(error) => return Self::internal(error),
            AuthError::Invalid(_) => ProblemCode::InvalidRequest,
            AuthError::AppNotFound(_) => ProblemCode::AppNotFound,
            AuthError::AppDisabled(_) => ProblemCode::AppDisabled,
            AuthError::AppFrozen { .. } => ProblemCode::AppFrozen,
            AuthError::RateLimited { .. } => ProblemCode::RateLimited,
            AuthError::SessionNotFound(_) => ProblemCode::SessionNotFound,
            AuthError::AuthenticationRequired => ProblemCode::AuthenticationRequired,
            AuthError::AuthMethodUnavailable(_) => ProblemCode::AuthMethodUnavailable,
        };
        let problem = Self::new(code, error.to_string());
        match error {
            AuthError::RateLimited { retry_after, .. } => problem.retry_after(retry_after),
            AuthError::AppFrozen { .. } => problem.retry_after(Duration::from_secs(60)),
            _ => problem,
        }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        if error.is_transient() {
            Self::unavailable("The database is not available; try again later").caused_by(error)
        } else {
            // Above all a value that cannot be decrypted: never to be taken for "not authorized".
            Self::internal(error)
        }
    }
}

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        Self::invalid(without_content(&error.to_string()))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = &self.0.problem;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if let Some(seconds) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        // Made of scopes' names and fixed words, which a header may hold.
        if let Some(Ok(challenge)) = self.0.challenge.as_deref().map(HeaderValue::from_str) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        // Found by the outermost layer, which knows the request id and logs.
        response.extensions_mut().insert(self);
        response
    }
}

/// Completes and logs error answers, each once. What a flood of them would say twice in a second is counted only.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    ours: Budget,
    theirs: Budget,
}

impl Reporter {
    pub(crate) fn finish(&self, mut response: Response, request_id: &str) -> Response {
        let Some(ApiError(mut inner)) = response.extensions_mut().remove::<ApiError>() else {
            return response;
        };
        self.log(&inner);
        inner.problem.request_id = Some(request_id.to_owned());
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, Json(&inner.problem).into_response().into_body())
    }

    fn log(&self, inner: &Inner) {
        let (problem, cause) = (&inner.problem, inner.cause.as_deref());
        let (code, status) = (problem.code.as_str(), problem.status);
        let blame = blame(problem.code);
        let budget = match blame {
            Blame::Us => &self.ours,
            Blame::Caller => &self.theirs,
            Blame::Nobody => return tracing::debug!(code, status, "gateway.http.problem"),
        };
        let Some(suppressed) = budget.take() else { return };
        let suppressed = (suppressed > 0).then_some(suppressed);
        if blame == Blame::Us {
            tracing::error!(code, status, cause, suppressed, "gateway.http.problem");
        } else {
            tracing::warn!(code, status, cause, suppressed, "gateway.http.problem");
        }
    }
}

/// Whose mistake an error answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    Us,
    Caller,
    Nobody,
}

fn blame(code: ProblemCode) -> Blame {
    match code {
        // The ordinary answer for whoever has not been asked yet.
        ProblemCode::AuthenticationRequired => Blame::Nobody,
        code if code.status() >= 500 => Blame::Us,
        _ => Blame::Caller,
    }
}

/// How many lines a second may bring.
const LINES_A_SECOND: u32 = 20;

/// Bounds the lines of one kind.
#[derive(Debug, Default)]
struct Budget(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    since: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Budget {
    /// Whether a line may be written, and how many were not since the last one.
    fn take(&self) -> Option<u64> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.since.is_none_or(|since| since.elapsed() >= Duration::from_secs(1)) {
            second.since = Some(Instant::now());
            second.lines = 0;
        }
        if second.lines >= LINES_A_SECOND {
            second.suppressed += 1;
            return None;
        }
        second.lines += 1;
        Some(std::mem::take(&mut second.suppressed))
    }
}

/// What a parser says was expected, without what it got: that may be a secret in the wrong place.
pub(crate) fn without_content(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(text, _)| text);
    // The last occurrence: everything before may be the caller's words.
    if let Some(at) = message.rfind("is not a valid ") {
        return message[at + "is ".len()..].to_owned();
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("field {name} is missing");
    }
    match message.rfind(", expected ") {
        Some(at) if message.starts_with("unknown field ") => format!("no such field; {}", &message[at + 2..]),
        Some(at) => message[at + 2..].to_owned(),
        None => "not of the documented form".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_not_repeated() {
        for (message, expected) in [
            ("invalid type: string \"s3cret, expected\", expected u32 at line 1 column 9", "expected u32"),
            (
                "`s3cret is not a valid x` is not a valid app id: expected `cli_`…",
                "not a valid app id: expected `cli_`…",
            ),
            ("missing field `app_id` at line 1 column 2", "field `app_id` is missing"),
            (
                "unknown field `s3cret`, expected `a` or `b` at line 1 column 2",
                "no such field; expected `a` or `b`",
            ),
            ("unknown variant `s3cret`, expected one of `a`, `b`", "expected one of `a`, `b`"),
            ("s3cret", "not of the documented form"),
        ] {
            assert_eq!(without_content(message), expected);
        }
    }

    #[test]
    fn an_ordinary_answer_is_nobodys_mistake() {
        assert_eq!(blame(ProblemCode::AuthenticationRequired), Blame::Nobody);
        assert_eq!(blame(ProblemCode::AppNotFound), Blame::Caller);
        assert_eq!(blame(ProblemCode::Unavailable), Blame::Us);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_instead_of_written() {
        let budget = Budget::default();
        let written = (0..50).filter(|_| budget.take().is_some()).count();
        assert_eq!(written, 20);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(budget.take(), Some(30));
        assert_eq!(budget.take(), Some(0));
    }

    #[test]
    fn waits_are_whole_seconds_and_never_none() {
        let wait =
            |millis| ApiError::invalid("").retry_after(Duration::from_millis(millis)).0.problem.retry_after;
        assert_eq!([wait(0), wait(1), wait(1000), wait(1001)], [Some(1), Some(1), Some(1), Some(2)]);
    }
}
