//! The errors of calls to Lark: what kind of failure it is, and whether the request may have been processed.
//!
//! [`KNOWN_CODES`] is the one place where Lark's error codes get a meaning. To teach the client another code, add a
//! row.

mod codes;
mod kind;

use std::{fmt, time::Duration};

pub(crate) use codes::{CARD_CONTENT, WRONG_CLOUD, WRONG_CLOUD_MESSAGE};
pub use codes::{KNOWN_CODES, KnownCode, known};
pub use kind::{Cause, ErrorKind, MessageProblem, Outcome, ScopeHolder};

use ErrorKind::{InvalidRequest, RateLimited, Transient, Unknown};
use Outcome::{MaybeProcessed, NotProcessed};

/// A failed call to Lark.
///
/// The error holds no part of the request and none of Lark's own text, which may repeat the request. It can be logged,
/// stored and shown. Lark's log id finds the details in the developer console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LarkError {
    /// Name of the call, as in the span `lark.api.<name>`.
    pub api: &'static str,
    /// Kind of failure, which decides the reaction.
    pub kind: ErrorKind,
    /// Whether Lark may have processed the request despite the failure.
    pub outcome: Outcome,
    /// How the failure was detected.
    pub cause: Cause,
    /// Lark's error code, if the response has one.
    pub code: Option<i64>,
    /// Status of the HTTP response, if there was a response.
    pub http_status: Option<u16>,
    /// What happened, in one line.
    pub message: &'static str,
    /// Wait before the next call, as Lark or the rate limiter asks for it.
    pub retry_after: Option<Duration>,
    /// Lark's id of this call.
    pub log_id: Option<Box<str>>,
}

/// Codes by which Lark refuses the application's own access tokens. Some of them mean a user access token elsewhere.
const APP_TOKEN_REFUSALS: [i64; 7] = [99991663, 99991664, 99991665, 99991668, 99991671, 99991677, 20014];

impl LarkError {
    /// Returns a failure without a response of Lark.
    #[must_use]
    pub const fn new(
        api: &'static str,
        kind: ErrorKind,
        outcome: Outcome,
        cause: Cause,
        message: &'static str,
    ) -> Self {
        Self {
            api,
            kind,
            outcome,
            cause,
            code: None,
            http_status: None,
            message,
            retry_after: None,
            log_id: None,
        }
    }

    /// Returns the failure of a request that the client refuses to send.
    #[must_use]
    pub const fn not_sent(api: &'static str, message: &'static str) -> Self {
        Self::new(api, InvalidRequest, NotProcessed, Cause::NotSent, message)
    }

    /// Returns true when the same request may succeed later. Whether sending it again is safe is in `outcome`.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, Transient | RateLimited | Unknown | ErrorKind::AuthorizationPending { .. })
    }

    /// Returns true when Lark refused the call because the application made too many.
    #[must_use]
    pub fn is_app_limit(&self) -> bool {
        self.kind == RateLimited
            && self.cause != Cause::NotSent
            && (self.http_status == Some(429) || self.code == Some(codes::APP_LIMIT))
    }

    /// Returns a label for metrics from a bounded set: `code_20050`, `code_other`, `timeout`, `http_5xx`, …
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self.cause {
            Cause::NotSent => "not_sent",
            Cause::Connect => "connect",
            Cause::Timeout => "timeout",
            Cause::Cut => "cut",
            Cause::InvalidAnswer => "invalid_answer",
            Cause::Code => self.code.and_then(known).map_or("code_other", |row| row.label),
            Cause::OAuth => match self.kind {
                ErrorKind::AuthorizationPending { .. } => "authorization_pending",
                ErrorKind::AccessDenied => "access_denied",
                _ => "oauth_error",
            },
            Cause::Status => match self.http_status {
                Some(429) => "http_429",
                Some(300..=399) => "http_3xx",
                Some(400..=499) => "http_4xx",
                Some(500..) => "http_5xx",
                _ => "http_other",
            },
        }
    }

    /// Returns true when Lark refused the application's own token. Such a request was not processed. Meaningful only
    /// for calls that are made with the application's own token.
    pub(crate) fn refuses_app_token(&self) -> bool {
        self.code.is_some_and(|code| APP_TOKEN_REFUSALS.contains(&code))
    }
}

impl fmt::Display for LarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.api, self.message)?;
        if let Some(code) = self.code {
            write!(f, ", code {code}")?;
        }
        if let Some(status) = self.http_status {
            write!(f, ", HTTP {status}")?;
        }
        if let Some(log_id) = &self.log_id {
            write!(f, ", log id {log_id}")?;
        }
        write!(f, "; {}", self.kind)?;
        if let Some(wait) = self.retry_after {
            write!(f, " (wait {} s)", wait.as_secs())?;
        }
        if self.outcome == MaybeProcessed {
            f.write_str("; Lark may have processed the request")
        } else {
            Ok(())
        }
    }
}

impl std::error::Error for LarkError {}

#[cfg(test)]
mod tests {
    use super::{ErrorKind::RefreshTokenInvalid, *};

    #[test]
    fn lark_error_display_names_event_kind_and_remedy() {
        let error = LarkError {
            code: Some(20073),
            http_status: Some(400),
            log_id: Some("2026".into()),
            ..LarkError::new(
                "refresh",
                RefreshTokenInvalid,
                NotProcessed,
                Cause::Code,
                "the refresh token was used before",
            )
        };
        assert_eq!(
            error.to_string(),
            "refresh: the refresh token was used before, code 20073, HTTP 400, log id 2026; the refresh token is \
             no longer valid: the person must authorize again"
        );
        assert_eq!(error.label(), "code_20073");
        assert!(!error.is_retryable());
    }

    #[test]
    fn label_unknown_code_or_status_returns_bounded_label() {
        let error = LarkError {
            code: Some(123_456_789),
            ..LarkError::new("x", Unknown, NotProcessed, Cause::Code, "?")
        };
        assert_eq!(error.label(), "code_other");
        assert!(error.is_retryable());
        let status = |status| LarkError {
            http_status: Some(status),
            ..LarkError::new("x", Transient, MaybeProcessed, Cause::Status, "?")
        };
        assert_eq!(
            [302, 404, 429, 503].map(|s| status(s).label()),
            ["http_3xx", "http_4xx", "http_429", "http_5xx"]
        );
    }

    #[test]
    fn lark_error_size_is_below_128_bytes() {
        assert!(size_of::<LarkError>() < 128, "{}", size_of::<LarkError>());
    }
}
