//! What an answer of Lark without a token pair means for a poll: a pure function.

use std::time::Duration;

use larkauth_lark::error::{Cause, ErrorKind, LarkError, Outcome};
use larkauth_models::FailureReason;
use larkauth_storage::{DevicePoll, NextPoll, SessionEnding};

/// What `slow_down` adds to the interval. From RFC 8628 section 3.5.
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// Time before the expiry of a code at which it is polled for the last time: longer than the way to Lark.
const BEFORE_EXPIRY: Duration = Duration::from_secs(1);

/// What a poll without a pair means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The person has not answered.
    Pending(NextPoll),
    /// Lark did not answer, or not now.
    Unanswered(NextPoll),
    /// The code is over. The session gets another one.
    CodeOver,
    /// The session ends.
    Ended(SessionEnding),
    /// The session ends, and the breaker of the application opens.
    AppRefused,
}

/// Decides by the kind of the error. `code_left` is the time until the code expires, zero after that; `longest` is the
/// longest pause after failures.
pub(super) fn decide(
    poll: &DevicePoll,
    error: &LarkError,
    code_left: Duration,
    longest: Duration,
) -> Verdict {
    let failed = |reason| Verdict::Ended(SessionEnding::Failed(reason));
    match error.kind {
        ErrorKind::AuthorizationPending { slow_down } => {
            let interval = if slow_down { poll.interval + SLOW_DOWN } else { poll.interval };
            // A Lark that counts polls before it looks at the code says `slow_down` of a used code, too.
            let is_answer_lost = poll.is_answer_lost && slow_down;
            let after = pause(interval, code_left);
            Verdict::Pending(NextPoll { after, interval, failures: 0, is_answer_lost })
        }
        ErrorKind::AccessDenied => Verdict::Ended(SessionEnding::Rejected),
        // A lost answer may have held the pair, and Lark gives it once.
        ErrorKind::DeviceCodeExpired | ErrorKind::InvalidGrant if poll.is_answer_lost => {
            failed(FailureReason::ExchangeOutcomeUnknown)
        }
        ErrorKind::DeviceCodeExpired => Verdict::CodeOver,
        // RFC 6749's `invalid_grant` is what some servers say of an expired code.
        ErrorKind::InvalidGrant if code_left <= poll.interval => Verdict::CodeOver,
        ErrorKind::InvalidGrant => failed(FailureReason::CodeInvalid),
        ErrorKind::User => failed(FailureReason::UserUnavailable),
        ErrorKind::App => Verdict::AppRefused,
        ErrorKind::InvalidRequest | ErrorKind::InsufficientScope { .. } => {
            failed(FailureReason::AppMisconfigured)
        }
        _ => {
            // With a code of its own Lark turned the request down.
            let is_lost = error.outcome == Outcome::MaybeProcessed && error.code.is_none();
            let was_sent = error.cause != Cause::NotSent;
            let failures = poll.failures.saturating_add(u32::from(was_sent));
            let doubled = poll.interval.saturating_mul(2_u32.saturating_pow(failures));
            let after = doubled.min(longest.max(poll.interval)).max(error.retry_after.unwrap_or_default());
            Verdict::Unanswered(NextPoll {
                after,
                interval: poll.interval,
                failures,
                is_answer_lost: poll.is_answer_lost || is_lost,
            })
        }
    }
}

/// Returns the pause until the next poll: the interval, or a little more so that the last poll is just before the expiry.
fn pause(interval: Duration, code_left: Duration) -> Duration {
    let last = code_left.saturating_sub(BEFORE_EXPIRY);
    if last >= interval && last < interval * 2 { last } else { interval }
}

#[cfg(test)]
mod tests {
    use larkauth_models::SessionId;
    use uuid::Uuid;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);
    const FAR: Duration = Duration::from_secs(200);

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn poll(failures: u32, is_answer_lost: bool) -> DevicePoll {
        DevicePoll {
            session_id: SessionId(Uuid::nil()),
            claim: Uuid::nil(),
            interval: seconds(5),
            is_opened: true,
            failures,
            is_answer_lost,
            is_enabled: true,
        }
    }

    fn error(kind: ErrorKind, outcome: Outcome, cause: Cause) -> LarkError {
        LarkError::new("poll_device_code", kind, outcome, cause, "no")
    }

    fn refused(kind: ErrorKind) -> LarkError {
        error(kind, Outcome::NotProcessed, Cause::OAuth)
    }

    #[test]
    fn pending_answer_ends_doubt_and_slow_down_adds_five_seconds_for_good() {
        let pending = |slow_down| refused(ErrorKind::AuthorizationPending { slow_down });
        let Verdict::Pending(next) = decide(&poll(3, true), &pending(false), FAR, LONGEST) else {
            panic!("not pending")
        };
        assert_eq!(
            next,
            NextPoll { after: seconds(5), interval: seconds(5), failures: 0, is_answer_lost: false }
        );
        let Verdict::Pending(slower) = decide(&poll(0, true), &pending(true), FAR, LONGEST) else {
            panic!("not pending")
        };
        assert_eq!((slower.after, slower.interval), (seconds(10), seconds(10)));
        assert!(slower.is_answer_lost, "it does not say that the code is unused");
    }

    #[test]
    fn last_poll_is_just_before_the_expiry_and_never_before_the_interval() {
        for (left, after) in [(200, 5), (11, 5), (10, 9), (6, 5), (5, 5), (0, 5)] {
            assert_eq!(pause(seconds(5), seconds(left)), seconds(after), "{left} s left");
        }
    }

    #[test]
    fn code_is_over_when_it_expired_and_unknown_after_a_lost_answer() {
        let unknown = Verdict::Ended(SessionEnding::Failed(FailureReason::ExchangeOutcomeUnknown));
        for kind in [ErrorKind::DeviceCodeExpired, ErrorKind::InvalidGrant] {
            assert_eq!(decide(&poll(0, true), &refused(kind.clone()), Duration::ZERO, LONGEST), unknown);
            assert_eq!(decide(&poll(0, false), &refused(kind), Duration::ZERO, LONGEST), Verdict::CodeOver);
        }
        let early = decide(&poll(0, false), &refused(ErrorKind::InvalidGrant), FAR, LONGEST);
        assert_eq!(early, Verdict::Ended(SessionEnding::Failed(FailureReason::CodeInvalid)));
        let early = decide(&poll(0, false), &refused(ErrorKind::DeviceCodeExpired), FAR, LONGEST);
        assert_eq!(early, Verdict::CodeOver);
    }

    #[test]
    fn refusal_hits_whom_it_belongs_to() {
        let decide = |kind| decide(&poll(0, false), &refused(kind), FAR, LONGEST);
        let failed = |reason| Verdict::Ended(SessionEnding::Failed(reason));
        assert_eq!(decide(ErrorKind::AccessDenied), Verdict::Ended(SessionEnding::Rejected));
        assert_eq!(decide(ErrorKind::User), failed(FailureReason::UserUnavailable));
        assert_eq!(decide(ErrorKind::App), Verdict::AppRefused);
        assert_eq!(decide(ErrorKind::InvalidRequest), failed(FailureReason::AppMisconfigured));
    }

    #[test]
    fn unanswered_polls_double_the_pause_and_only_a_lost_answer_leaves_a_doubt() {
        let unanswered =
            |failures, error: LarkError| match decide(&poll(failures, false), &error, FAR, LONGEST) {
                Verdict::Unanswered(next) => next,
                other => panic!("{other:?}"),
            };
        let timeout = || error(ErrorKind::Transient, Outcome::MaybeProcessed, Cause::Timeout);
        let pauses: Vec<_> = (0..5).map(|failures| unanswered(failures, timeout()).after.as_secs()).collect();
        assert_eq!(pauses, [10, 20, 30, 30, 30]);
        assert!(unanswered(0, timeout()).is_answer_lost);
        let connect = error(ErrorKind::Transient, Outcome::NotProcessed, Cause::Connect);
        assert!(!unanswered(0, connect).is_answer_lost);
        let busy = LarkError { code: Some(20072), ..timeout() };
        assert!(!unanswered(0, busy).is_answer_lost, "Lark wants the request repeated");

        let limited = error(ErrorKind::RateLimited, Outcome::NotProcessed, Cause::Status);
        let next = unanswered(0, LarkError { retry_after: Some(seconds(45)), ..limited });
        assert_eq!((next.after, next.failures), (seconds(45), 1));
        let own = error(ErrorKind::RateLimited, Outcome::NotProcessed, Cause::NotSent);
        let next = unanswered(0, LarkError { retry_after: Some(seconds(1)), ..own });
        assert_eq!((next.after, next.failures), (seconds(5), 0), "Lark was not asked");
    }
}
