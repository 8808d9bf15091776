//! Every error answer: an RFC 9457 document for the caller, one log line for the operator.

mod content;
mod reporter;
mod responses;

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use larkauth_auth::AuthError;
use larkauth_contracts::problem::{Problem, ProblemCode, seconds_to_wait};
use larkauth_messaging::BusError;
use larkauth_models::{IdError, SessionId};
use larkauth_storage::StorageError;

pub(crate) use content::without_content;
pub(crate) use reporter::{Audience, ProblemReporter};
pub(crate) use responses::{AuditProblems, CreateProblems, ReadProblems, TokenProblems};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// `WWW-Authenticate` for a key that is unknown, expired or revoked (RFC 6750).
pub(crate) const INVALID_KEY: &str = "Bearer realm=\"larkauth\", error=\"invalid_token\"";
/// `Retry-After` while a part is down: 5 s.
const RETRY_AFTER: Duration = Duration::from_secs(5);

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
    /// An error whose `detail` says what happened here and what to do.
    pub(crate) fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner { problem: code.document(Some(detail.into())), cause: None, challenge: None }))
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::InvalidRequest, detail)
    }

    /// The answer to a request whose handler panicked. The process's panic hook has logged the panic with its place.
    pub(crate) fn panicked() -> Self {
        Self::internal("the handler panicked")
    }

    /// An error of the service; the cause is for the log.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new(ProblemCode::Internal, "Tell the operator the request_id; the service's log says more")
            .caused_by(cause)
    }

    /// An error because a part is down that will be back.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::Unavailable, detail).retry_after(RETRY_AFTER)
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.problem.detail = Some(detail.into());
        self
    }

    pub(crate) fn caused_by(mut self, cause: impl std::fmt::Display) -> Self {
        self.0.cause = Some(cause.to_string());
        self
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.0.problem.retry_after = Some(seconds_to_wait(wait));
        self
    }

    pub(crate) fn with_session(mut self, session_id: SessionId) -> Self {
        self.0.problem.session_id = Some(session_id);
        self
    }

    pub(crate) fn missing_scopes(mut self, scopes: Vec<String>) -> Self {
        self.0.problem.missing_scopes = scopes;
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
            // A token that cannot be read must not look like "not authorized".
            AuthError::SecretUnreadable(_) => return Self::internal(error),
            AuthError::EncryptionKeyMissing { .. } | AuthError::ForeignEncryptionKeys(_) => {
                return Self::unavailable("An encryption key is missing; the operator has to put it back")
                    .caused_by(error);
            }
            AuthError::Cipher(error) => return Self::internal(error),
            AuthError::Spool(error) => return Self::internal(error),
            AuthError::Invalid(_) => ProblemCode::InvalidRequest,
            AuthError::Forbidden(_) => ProblemCode::Forbidden,
            AuthError::KeyRefused => ProblemCode::Unauthorized,
            AuthError::AppNotFound(_) => ProblemCode::AppNotFound,
            AuthError::AppDisabled(_) => ProblemCode::AppDisabled,
            AuthError::AppFrozen { .. } => ProblemCode::AppFrozen,
            AuthError::RateLimited { .. } | AuthError::AskedRecently { .. } => ProblemCode::RateLimited,
            AuthError::SessionNotFound(_) | AuthError::OtherApplication { .. } => {
                ProblemCode::SessionNotFound
            }
            AuthError::AuthenticationRequired => ProblemCode::AuthenticationRequired,
            AuthError::RefreshInProgress { .. } => ProblemCode::RefreshInProgress,
            AuthError::UpstreamUnavailable { .. } => ProblemCode::UpstreamUnavailable,
            AuthError::IdempotencyKeyReused => ProblemCode::IdempotencyKeyReused,
            AuthError::InsufficientScope { .. } => ProblemCode::InsufficientScope,
        };
        let problem = Self::new(code, error.to_string());
        match error {
            AuthError::RateLimited { retry_after, .. }
            | AuthError::AskedRecently { retry_after }
            | AuthError::RefreshInProgress { retry_after }
            | AuthError::UpstreamUnavailable { retry_after } => problem.retry_after(retry_after),
            AuthError::KeyRefused => problem.challenge(INVALID_KEY),
            AuthError::InsufficientScope { missing, .. } => problem.missing_scopes(missing),
            AuthError::AppFrozen { .. } => problem.retry_after(Duration::from_secs(60)),
            _ => problem,
        }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        if error.is_transient() {
            Self::unavailable("The database is not available; try again later").caused_by(error)
        } else if matches!(error, StorageError::Undecryptable { table: "applications", .. }) {
            Self::unavailable("An encryption key is missing; the operator has to put it back")
                .caused_by(error)
        } else {
            // A value that cannot be decrypted is one of these. It must not look like "not authorized".
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
        // The text consists of scope names and fixed words, which a header may hold.
        if let Some(Ok(challenge)) = self.0.challenge.as_deref().map(HeaderValue::from_str) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        // The outermost layer takes it out, adds the request id and logs it.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_fraction_of_second_rounds_up_to_at_least_one() {
        let wait =
            |millis| ApiError::invalid("").retry_after(Duration::from_millis(millis)).0.problem.retry_after;
        assert_eq!([wait(0), wait(1), wait(1000), wait(1001)], [Some(1), Some(1), Some(1), Some(2)]);
    }

    #[test]
    fn retry_after_header_and_text_name_the_same_seconds() {
        let window = Duration::from_secs(60);
        for millis in [0, 1, 1000, 1001, 1999, 59_300] {
            let retry_after = Duration::from_millis(millis);
            for error in [
                AuthError::RateLimited { max: 5, window, retry_after },
                AuthError::AskedRecently { retry_after },
                AuthError::RefreshInProgress { retry_after },
                AuthError::UpstreamUnavailable { retry_after },
            ] {
                let text = error.to_string();
                let seconds = ApiError::from(error).0.problem.retry_after.unwrap();
                assert!(text.contains(&format!(" {seconds} s")), "{seconds}: {text}");
            }
        }
    }
}
