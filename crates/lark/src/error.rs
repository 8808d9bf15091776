//! What can go wrong between this process and Lark: whose fault it is, and whether repeating is safe.
//!
//! [`KNOWN_CODES`] is the one place where Lark's numbers get a meaning. To teach the client another code, add a row.

use std::{fmt, time::Duration};

use Fault::{
    AccessToken, App, Code, Message as MessageFault, Ours, RateLimited, Scope, Token, Transient, Unknown,
    User,
};
use Outcome::{MaybeProcessed, NotProcessed};

/// A call to Lark that did not succeed.
///
/// Holds nothing of the request and nothing of Lark's own wording, which may repeat the request: it can be logged,
/// stored and shown. Lark's log id finds the rest in the developer console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LarkError {
    /// The call, as in the span `lark.api.<name>`.
    pub api: &'static str,
    /// Whose fault it is, which is what to act on.
    pub fault: Fault,
    /// Whether Lark may have acted on the request all the same.
    pub outcome: Outcome,
    /// How it was noticed.
    pub cause: Cause,
    /// Lark's own number, when it gave one.
    pub code: Option<i64>,
    /// The status of the HTTP answer, when there was one.
    pub http_status: Option<u16>,
    /// What happened, in one line.
    pub message: &'static str,
    /// How long Lark asks to wait before the next call.
    pub retry_after: Option<Duration>,
    /// Lark's id of this call.
    pub log_id: Option<Box<str>>,
}

/// Whose fault a failed call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Lark or the network: repeat later, with backoff.
    Transient,
    /// Too many calls: repeat after the wait.
    RateLimited,
    /// An answer with a meaning this crate does not know: repeat later, delete nothing, look at the code.
    Unknown,
    /// The refresh token is dead: the person must authorize again.
    Token,
    /// The access token is expired or invalid: get a fresh one and repeat once.
    AccessToken,
    /// This person may not use the application: stop asking them, tell the operator.
    User,
    /// The application's credentials or state: no person is to blame, stop and alarm.
    App,
    /// A malformed request or a wrong setting on this side: tell the operator, repeating does not help.
    Ours,
    /// The authorization code or device code is over: offer a new invitation.
    Code,
    /// The person has not answered on the device page yet: poll again.
    Pending {
        /// From now on poll 5 seconds slower than before.
        slow_down: bool,
    },
    /// The person said no.
    Denied,
    /// A permission is missing.
    Scope {
        /// Who lacks it.
        holder: ScopeHolder,
        /// Its names, as far as Lark told them.
        missing: Vec<String>,
    },
    /// This one message cannot be sent or changed; others can.
    Message(MessageProblem),
}

/// Who lacks a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeHolder {
    /// The person has not granted it: ask them again, with it.
    User,
    /// The application has not got it: an administrator adds it in the developer console.
    App,
}

/// Why one message cannot be sent or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageProblem {
    /// It does not reach this receiver.
    Undeliverable,
    /// It was recalled.
    Recalled,
    /// It was deleted.
    Deleted,
    /// It is older than the 14 days in which it can be changed.
    TooOld,
}

/// Whether Lark may have acted on a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not: the same request may be sent again.
    NotProcessed,
    /// It may have: a code or refresh token of the request may be used up.
    MaybeProcessed,
}

/// How a failure was noticed. Also a bounded set of labels for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Refused on this side, before anything was sent.
    NotSent,
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer was complete.
    Cut,
    /// An answer that is not what Lark answers: not JSON, empty, too long, a field missing.
    InvalidAnswer,
    /// An HTTP status without a Lark code.
    Status,
    /// A Lark code.
    Code,
    /// An OAuth error (RFC 6749 section 5.2, RFC 8628 section 3.5) without a known code.
    OAuth,
}

impl LarkError {
    /// A failure without an answer of Lark.
    #[must_use]
    pub const fn new(
        api: &'static str,
        fault: Fault,
        outcome: Outcome,
        cause: Cause,
        message: &'static str,
    ) -> Self {
        Self {
            api,
            fault,
            outcome,
            cause,
            code: None,
            http_status: None,
            message,
            retry_after: None,
            log_id: None,
        }
    }

    /// A request that this side refuses to send.
    #[must_use]
    pub const fn not_sent(api: &'static str, message: &'static str) -> Self {
        Self::new(api, Ours, NotProcessed, Cause::NotSent, message)
    }

    /// True when the same request may succeed later. Says nothing about whether repeating it is safe: see `outcome`.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.fault, Transient | RateLimited | Unknown | Fault::Pending { .. })
    }

    /// A label for metrics from a bounded set: `code_20050`, `code_other`, `timeout`, `http_5xx`, …
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self.cause {
            Cause::NotSent => "not_sent",
            Cause::Connect => "connect",
            Cause::Timeout => "timeout",
            Cause::Cut => "cut",
            Cause::InvalidAnswer => "invalid_answer",
            Cause::Code => self.code.and_then(known).map_or("code_other", |row| row.label),
            Cause::OAuth => match self.fault {
                Fault::Pending { .. } => "authorization_pending",
                Fault::Denied => "access_denied",
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
        write!(f, "; {}", self.fault)?;
        if let Some(wait) = self.retry_after {
            write!(f, " (wait {} s)", wait.as_secs())?;
        }
        if self.outcome == MaybeProcessed { f.write_str("; Lark may have acted on it") } else { Ok(()) }
    }
}

impl std::error::Error for LarkError {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transient => "Lark or the network is in trouble: repeat later",
            RateLimited => "too many calls: repeat after the wait",
            Unknown => "this version does not know the answer: repeat later and look the code up",
            Token => "the refresh token is dead: the person must authorize again",
            AccessToken => "the access token is no longer accepted: get a fresh one and repeat once",
            User => "the person may not use the application: stop asking them and check their account",
            App => {
                "the application is at fault, no person: check its secret and state in the developer console"
            }
            Ours => "the request or a setting is wrong: repeating does not help",
            Code => "this attempt is over: offer a new invitation",
            Fault::Pending { slow_down: false } => "the person has not answered yet: poll again",
            Fault::Pending { slow_down: true } => "polled too fast: wait 5 s longer between polls",
            Fault::Denied => "the person said no",
            Scope { holder: ScopeHolder::User, .. } => {
                "the person has not granted a permission: ask again, with it"
            }
            Scope { holder: ScopeHolder::App, .. } => {
                "the application lacks a permission: add it in the developer console"
            }
            MessageFault(MessageProblem::Undeliverable) => "the message does not reach this receiver",
            MessageFault(_) => "this message can no longer be changed: send a new one",
        })?;
        match self {
            Scope { missing, .. } if !missing.is_empty() => write!(f, ": {}", missing.join(" ")),
            _ => Ok(()),
        }
    }
}

/// What one of Lark's codes means.
#[derive(Debug)]
pub struct KnownCode {
    /// Lark's number.
    pub code: i64,
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether Lark may have acted on the request.
    pub outcome: Outcome,
    /// What happened.
    pub message: &'static str,
    label: &'static str,
}

/// The row of a code.
#[must_use]
pub fn known(code: i64) -> Option<&'static KnownCode> {
    KNOWN_CODES.iter().find(|row| row.code == code)
}

const USER_SCOPE: Fault = Scope { holder: ScopeHolder::User, missing: Vec::new() };
const APP_SCOPE: Fault = Scope { holder: ScopeHolder::App, missing: Vec::new() };
const UNDELIVERABLE: Fault = MessageFault(MessageProblem::Undeliverable);

macro_rules! codes {
    ($($code:literal $fault:expr, $outcome:expr, $message:literal;)+) => {
        &[$(KnownCode {
            code: $code,
            fault: $fault,
            outcome: $outcome,
            message: $message,
            label: concat!("code_", stringify!($code)),
        }),+]
    };
}

/// Every code with a meaning here. All others are [`Fault::Unknown`].
pub static KNOWN_CODES: &[KnownCode] = codes! {
    // Token endpoint. "Outcome may be unknown" is Lark's own word on the first two.
    20050 Transient, MaybeProcessed, "Lark's token service failed";
    20072 Transient, MaybeProcessed, "Lark's token service is busy";
    20003 Code, NotProcessed, "Lark does not know the authorization code";
    20004 Code, NotProcessed, "the authorization code expired";
    20065 Code, NotProcessed, "the authorization code was used before";
    20024 Token, NotProcessed, "the code or refresh token belongs to another application";
    20026 Token, NotProcessed, "the refresh token is invalid";
    20037 Token, NotProcessed, "the refresh token expired";
    20064 Token, NotProcessed, "the refresh token was revoked";
    20073 Token, NotProcessed, "the refresh token was used before";
    20008 User, NotProcessed, "Lark does not know the person";
    20010 User, NotProcessed, "the person has no permission to use the application";
    20066 User, NotProcessed, "the person's account is not in a usable state";
    20002 App, NotProcessed, "the application's secret is wrong";
    20009 App, NotProcessed, "the application is not installed in this company";
    20048 App, NotProcessed, "Lark does not know the application";
    20069 App, NotProcessed, "the application is disabled";
    20074 App, NotProcessed, "refreshing tokens is switched off for the application";
    20001 Ours, NotProcessed, "a parameter is missing or malformed";
    20036 Ours, NotProcessed, "the grant type is not supported";
    20049 Ours, NotProcessed, "the PKCE check failed";
    20063 Ours, NotProcessed, "the request body is malformed";
    20067 Ours, NotProcessed, "the list of scopes is invalid";
    20068 Ours, NotProcessed, "a scope is asked for that the application does not have";
    20070 Ours, NotProcessed, "two ways of authentication in one request";
    20071 Ours, NotProcessed, "the redirect URI differs from the one the code was asked for with";
    // User info.
    20005 AccessToken, NotProcessed, "the user access token is invalid";
    20021 User, NotProcessed, "the person has resigned";
    20022 User, NotProcessed, "the person's account is frozen";
    20023 User, NotProcessed, "the person has not registered";
    // The application's own tokens. The client drops the cached one itself.
    10003 App, NotProcessed, "the application's id or secret is malformed";
    10014 App, NotProcessed, "the application's secret is wrong";
    20014 Transient, NotProcessed, "the application's access token is no longer accepted";
    99991663 Transient, NotProcessed, "the application's tenant token is no longer accepted";
    99991664 Transient, NotProcessed, "the application's access token is no longer accepted";
    // Any API.
    99991677 AccessToken, NotProcessed, "the user access token expired";
    99991668 AccessToken, NotProcessed, "the user access token is invalid";
    99991679 USER_SCOPE, NotProcessed, "the person has not granted a needed permission";
    99991672 APP_SCOPE, NotProcessed, "the application lacks a needed permission";
    99991400 RateLimited, NotProcessed, "Lark's rate limit is reached";
    // Contacts.
    41050 User, NotProcessed, "the person is outside the application's range";
    // Messages.
    230013 UNDELIVERABLE, NotProcessed, "the bot is not available to this person";
    230029 UNDELIVERABLE, NotProcessed, "the receiver has resigned";
    230053 UNDELIVERABLE, NotProcessed, "the person stopped the bot";
    230034 UNDELIVERABLE, NotProcessed, "Lark does not know the receiver";
    230020 RateLimited, NotProcessed, "too many messages to this receiver";
    230011 MessageFault(MessageProblem::Recalled), NotProcessed, "the message was recalled";
    230110 MessageFault(MessageProblem::Deleted), NotProcessed, "the message was deleted";
    230031 MessageFault(MessageProblem::TooOld), NotProcessed, "the message is too old to be changed";
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The platform's tables once more, written independently of the rows above.
    #[test]
    fn every_code_has_the_fault_of_the_platforms_table() {
        let expect = |codes: &[i64], fault: &Fault| {
            for code in codes {
                assert_eq!(known(*code).map(|row| &row.fault), Some(fault), "{code}");
            }
            codes.len()
        };
        let rows = expect(&[20050, 20072, 20014, 99991663, 99991664], &Transient)
            + expect(&[20003, 20004, 20065], &Code)
            + expect(&[20024, 20026, 20037, 20064, 20073], &Token)
            + expect(&[20008, 20010, 20066, 20021, 20022, 20023, 41050], &User)
            + expect(&[20002, 20009, 20048, 20069, 20074, 10003, 10014], &App)
            + expect(&[20001, 20036, 20049, 20063, 20067, 20068, 20070, 20071], &Ours)
            + expect(&[20005, 99991677, 99991668], &AccessToken)
            + expect(&[99991679], &USER_SCOPE)
            + expect(&[99991672], &APP_SCOPE)
            + expect(&[99991400, 230020], &RateLimited)
            + expect(&[230013, 230029, 230053, 230034], &UNDELIVERABLE)
            + expect(&[230011], &MessageFault(MessageProblem::Recalled))
            + expect(&[230110], &MessageFault(MessageProblem::Deleted))
            + expect(&[230031], &MessageFault(MessageProblem::TooOld));
        assert_eq!(rows, KNOWN_CODES.len(), "a row without an expectation, or twice");
    }

    #[test]
    fn only_two_codes_leave_the_outcome_open() {
        let open: Vec<_> =
            KNOWN_CODES.iter().filter(|r| r.outcome == MaybeProcessed).map(|r| r.code).collect();
        assert_eq!(open, [20050, 20072]);
    }

    #[test]
    fn an_error_says_what_whose_and_what_to_do() {
        let error = LarkError {
            code: Some(20073),
            http_status: Some(400),
            log_id: Some("2026".into()),
            ..LarkError::new("refresh", Token, NotProcessed, Cause::Code, "the refresh token was used before")
        };
        assert_eq!(
            error.to_string(),
            "refresh: the refresh token was used before, code 20073, HTTP 400, log id 2026; the refresh token is \
             dead: the person must authorize again"
        );
        assert_eq!(error.label(), "code_20073");
        assert!(!error.is_retryable());
    }

    #[test]
    fn labels_are_bounded() {
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
    fn it_is_small_enough_to_return() {
        assert!(size_of::<LarkError>() < 128, "{}", size_of::<LarkError>());
    }
}
