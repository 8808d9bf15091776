//! The errors of calls to Lark: what kind of failure it is, and whether the request may have been processed.
//!
//! [`KNOWN_CODES`] is the one place where Lark's error codes get a meaning. To teach the client another code, add a
//! row.

mod codes;

use std::{fmt, time::Duration};

pub use codes::{KNOWN_CODES, KnownCode, known};

use ErrorKind::{
    AccessTokenInvalid, App, InsufficientScope, InvalidGrant, InvalidRequest, Message as MessageKind,
    RateLimited, RefreshTokenInvalid, Transient, Unknown, User,
};
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

/// Kind of a failed call, by what the caller should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Lark or the network failed: retry later, with backoff.
    Transient,
    /// The rate limit is reached: retry after the wait.
    RateLimited,
    /// The response has no meaning known to this crate: retry later, delete nothing, look up the code.
    Unknown,
    /// The refresh token is expired, revoked or used: the person must authorize again.
    RefreshTokenInvalid,
    /// The access token is expired or invalid: get a new one and retry once.
    AccessTokenInvalid,
    /// The person may not use the application: stop inviting the person, tell the operator.
    User,
    /// The application's credentials or state are wrong for every person: stop and raise an alarm.
    App,
    /// The request or a setting of this process is wrong: tell the operator, a retry does not help.
    InvalidRequest,
    /// The authorization code or device code is expired, used or unknown: offer a new invitation.
    InvalidGrant,
    /// The person has not answered on the device page yet: poll again.
    AuthorizationPending {
        /// Poll 5 seconds slower than before from now on.
        slow_down: bool,
    },
    /// The person declined.
    AccessDenied,
    /// A permission is missing.
    InsufficientScope {
        /// Who lacks the permission.
        holder: ScopeHolder,
        /// Names of the missing permissions, as far as Lark's response has them.
        missing: Vec<String>,
    },
    /// This one message cannot be sent or changed; other messages can.
    Message(MessageProblem),
}

/// Who lacks a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeHolder {
    /// The person has not granted the permission: ask again, with the permission.
    User,
    /// The application does not have the permission: an administrator adds it in the developer console.
    App,
}

/// Why one message cannot be sent or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageProblem {
    /// The message does not reach this receiver.
    Undeliverable,
    /// The message was recalled.
    Recalled,
    /// The message was deleted.
    Deleted,
    /// The message is older than the 14 days in which Lark allows changes.
    TooOld,
    /// Lark does not support the operation for this message.
    Unsupported,
    /// Lark refuses the content of the card. A card of schema 1.0 and one of schema 2.0 cannot replace each other.
    CardRefused,
}

/// Whether Lark may have processed a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Lark has not processed the request: the same request may be sent again.
    NotProcessed,
    /// Lark may have processed the request: a code or refresh token in it may be used up.
    MaybeProcessed,
}

/// How a failure was detected. Also a bounded set of labels for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client refused the request before sending.
    NotSent,
    /// The connection could not be made.
    Connect,
    /// The response did not arrive in time.
    Timeout,
    /// The connection broke before the response was complete.
    Cut,
    /// The response is not of the documented form: not JSON, empty, too long, or a field is missing.
    InvalidAnswer,
    /// The response has an HTTP error status and no Lark code.
    Status,
    /// The response has a Lark code.
    Code,
    /// The response has an OAuth error (RFC 6749 section 5.2, RFC 8628 section 3.5) and no known code.
    OAuth,
}

/// Codes by which Lark refuses the application's own access tokens. Some of them mean a user access token elsewhere.
const APP_TOKEN_REFUSALS: [i64; 7] = [99991663, 99991664, 99991665, 99991668, 99991671, 99991677, 20014];

/// The general code of a card that cannot be shown. The text of the response has the precise one.
pub(crate) const CARD_CONTENT: i64 = 230099;
/// The code of a request to the wrong cloud.
pub(crate) const WRONG_CLOUD: i64 = 1_000_040_351;
/// What happened and what to do when an application is looked up in the wrong cloud.
pub(crate) const WRONG_CLOUD_MESSAGE: &str = "the application belongs to the other cloud: set the brand of its developer console (`feishu` or `lark`; \
     LARK_BRAND, or LARK_BASE_URL with LARK_ACCOUNTS_URL)";

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

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transient => "Lark or the network failed: retry later",
            RateLimited => "the rate limit is reached: retry after the wait",
            Unknown => "this version does not know the response: retry later and look up the code",
            RefreshTokenInvalid => "the refresh token is no longer valid: the person must authorize again",
            AccessTokenInvalid => "the access token is no longer valid: get a new one and retry once",
            User => "the person may not use the application: stop inviting the person and check the account",
            App => {
                "the application is at fault, not the person: check its secret and state in the developer console"
            }
            InvalidRequest => "the request or a setting is wrong: a retry does not help",
            InvalidGrant => "the authorization attempt is over: offer a new invitation",
            ErrorKind::AuthorizationPending { slow_down: false } => {
                "the person has not answered yet: poll again"
            }
            ErrorKind::AuthorizationPending { slow_down: true } => {
                "polls are too frequent: wait 5 s longer between polls"
            }
            ErrorKind::AccessDenied => "the person declined",
            InsufficientScope { holder: ScopeHolder::User, .. } => {
                "the person has not granted a permission: ask again, with the permission"
            }
            InsufficientScope { holder: ScopeHolder::App, .. } => {
                "the application lacks a permission: add it in the developer console"
            }
            MessageKind(MessageProblem::Undeliverable) => "the message does not reach this receiver",
            MessageKind(MessageProblem::CardRefused) => {
                "Lark refuses the content of the card: check the card template, if one is used"
            }
            MessageKind(_) => "this message can no longer be changed: send a new one",
        })?;
        match self {
            InsufficientScope { missing, .. } if !missing.is_empty() => {
                write!(f, ": {}", missing.join(" "))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
