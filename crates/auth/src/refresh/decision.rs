//! What an attempt without a new pair means for the token: a pure function of the row and of Lark's error.

use larkauth_lark::error::{ErrorKind, LarkError, Outcome};
use larkauth_models::TokenStatus;

/// When a token is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Not before a new consent.
    Never,
    /// After the backoff for so many failures in a row.
    Backoff,
    /// After the time in which a pair of the earlier holder arrives from the bus or from a spool.
    Arrival,
    /// When the rate limit has room.
    RateLimit,
    /// When the application's breaker lets a call through.
    Breaker,
}

/// What becomes of a token whose attempt gave no pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// Label of the metric and of the log line.
    pub(super) outcome: &'static str,
    /// Status of the token from now on.
    pub(super) status: TokenStatus,
    /// Failed attempts in a row.
    pub(super) failures: u32,
    /// Time of the next attempt.
    pub(super) next: Next,
}

/// Decides by the kind of the error: it hits the token, the person or the application that it belongs to, and an error
/// that is unknown or passes ends nothing.
pub(super) fn decide(
    status: TokenStatus,
    failures: u32,
    was_interrupted: bool,
    error: &LarkError,
) -> Decision {
    let more = failures.saturating_add(1);
    // A lost answer says nothing about the refresh token. With a code of its own Lark turned the request down.
    let is_lost = error.outcome == Outcome::MaybeProcessed && error.code.is_none();
    let uncertain = match status {
        TokenStatus::Suspended => TokenStatus::Suspended,
        _ if is_lost || was_interrupted => TokenStatus::OutcomeUnknown,
        status => status,
    };
    let decision = |outcome, status, failures, next| Decision { outcome, status, failures, next };
    match error.kind {
        // The holder of the earlier lease may have used it up, and its pair may be on its way to the store.
        ErrorKind::RefreshTokenInvalid | ErrorKind::InvalidGrant
            if was_interrupted && status != TokenStatus::OutcomeUnknown =>
        {
            decision("outcome_unknown", uncertain, more, Next::Arrival)
        }
        ErrorKind::RefreshTokenInvalid | ErrorKind::InvalidGrant => {
            decision("reauthorization_required", TokenStatus::ReauthorizationRequired, more, Next::Never)
        }
        ErrorKind::User | ErrorKind::AccessDenied => {
            decision("suspended", TokenStatus::Suspended, more, Next::Never)
        }
        ErrorKind::App => decision("app_refused", uncertain, failures, Next::Breaker),
        ErrorKind::RateLimited => decision("rate_limited", uncertain, failures, Next::RateLimit),
        _ if is_lost => decision("outcome_unknown", uncertain, more, Next::Backoff),
        _ => decision("failed", uncertain, more, Next::Backoff),
    }
}
