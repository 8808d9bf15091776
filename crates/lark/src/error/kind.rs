use std::fmt;

use ErrorKind::{
    AccessTokenInvalid, App, InsufficientScope, InvalidGrant, InvalidRequest, Message as MessageKind,
    RateLimited, RefreshTokenInvalid, Transient, Unknown, User,
};

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
