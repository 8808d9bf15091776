use larkauth_lark::error::{Cause, MessageProblem, Outcome, ScopeHolder};
use larkauth_models::{AppId, AuthMethod, SessionId};

use super::*;

/// `Some(after)` for a retry, `None` for a dead letter.
fn retried(trouble: impl Into<Trouble>) -> Option<Option<Duration>> {
    match verdict(Err(trouble.into())) {
        Verdict::Retry { after, reason } => {
            assert!(!reason.is_empty());
            Some(after)
        }
        Verdict::Dead { reason } => {
            assert!(!reason.is_empty());
            None
        }
        Verdict::Done { .. } => panic!("trouble is never done"),
    }
}

const AT_ONCE_OR_BY_BACKOFF: Option<Option<Duration>> = Some(None);

#[test]
fn what_passes_comes_again_and_what_does_not_is_dead() {
    let unavailable = || StorageError::Unavailable { during: "read", message: "gone".into() };
    let undecryptable = StorageError::Undecryptable {
        table: "access_tokens",
        column: "access_token",
        row: "1".into(),
        source: CipherError::NoKey,
    };
    let corrupt = StorageError::Corrupt { table: "applications", row: "1".into(), message: "m".into() };
    for error in [
        unavailable(),
        undecryptable,
        corrupt,
        StorageError::Schema("old".into()),
        StorageError::Refused { during: "write", message: "m".into() },
    ] {
        assert_eq!(retried(error), AT_ONCE_OR_BY_BACKOFF, "an operator mends it, nothing is lost meanwhile");
    }
    for error in [
        BusError::Unavailable { during: "publish", message: "gone".into() },
        BusError::Refused { routing_key: "k".into(), message: "m".into() },
        BusError::Topology("t".into()),
        BusError::Encode("e".into()),
    ] {
        assert_eq!(retried(error), AT_ONCE_OR_BY_BACKOFF);
    }
    for (error, dead) in [
        (CipherError::NoKey, false),
        (CipherError::UnknownKey("k".into()), false),
        (CipherError::Malformed, true),
        (CipherError::Rejected("k".into()), true),
        (CipherError::BadKeyId("k".into()), true),
    ] {
        assert_eq!(retried(error.clone()).is_none(), dead, "{error}");
        assert_eq!(retried(AuthError::Cipher(error.clone())).is_none(), dead, "{error}");
    }
    assert_eq!(retried(DecodeError::OtherType("t")), None);
    assert_eq!(retried(DecodeError::Malformed { expected: "t", line: 1, column: 1 }), None);
    assert_eq!(retried(AuthError::Storage(unavailable())), AT_ONCE_OR_BY_BACKOFF);
}

#[test]
fn larks_errors_hit_whom_they_belong_to() {
    let error = |kind: ErrorKind| LarkError::new("send_card", kind, Outcome::NotProcessed, Cause::Code, "no");
    for kind in [ErrorKind::Transient, ErrorKind::Unknown, ErrorKind::App] {
        assert_eq!(retried(error(kind)), AT_ONCE_OR_BY_BACKOFF);
    }
    let wait = Some(Duration::from_secs(9));
    assert_eq!(retried(LarkError { retry_after: wait, ..error(ErrorKind::RateLimited) }), Some(wait));
    assert_eq!(retried(error(ErrorKind::RateLimited)), AT_ONCE_OR_BY_BACKOFF);
    for kind in [
        ErrorKind::RefreshTokenInvalid,
        ErrorKind::AccessTokenInvalid,
        ErrorKind::User,
        ErrorKind::InvalidRequest,
        ErrorKind::InvalidGrant,
        ErrorKind::AuthorizationPending { slow_down: false },
        ErrorKind::AccessDenied,
        ErrorKind::InsufficientScope { holder: ScopeHolder::App, missing: vec![] },
        ErrorKind::Message(MessageProblem::TooOld),
    ] {
        assert_eq!(retried(error(kind.clone())), None, "{kind:?}: repeating does not help");
        assert_eq!(retried(AuthError::Lark(error(kind))), None);
    }
}

#[test]
fn an_application_that_is_not_served_now_may_be_later() {
    let app_id = AppId::new("cli_0123456789abcdef").unwrap();
    for error in [
        AuthError::AppNotFound(app_id.clone()),
        AuthError::AppDisabled(app_id.clone()),
        AuthError::AppFrozen { app_id, reason: "r".into() },
    ] {
        assert_eq!(retried(error), AT_ONCE_OR_BY_BACKOFF);
    }
    let session_id = SessionId(uuid::Uuid::nil());
    for error in [
        AuthError::Invalid("i".into()),
        AuthError::SessionNotFound(session_id),
        AuthError::AuthenticationRequired,
        AuthError::AuthMethodUnavailable(AuthMethod::DeviceCode),
    ] {
        assert_eq!(retried(error), None);
    }
}

#[test]
fn what_is_done_is_done_with_or_without_a_reply() {
    assert_eq!(verdict(Ok(None)), Verdict::DONE);
    let Verdict::Done { reply: Some(body) } = verdict(Ok(Some(Reply { answer: None, shows: None }))) else {
        panic!("a reply")
    };
    assert_eq!(body, "{}");
}

#[test]
fn event_ids_are_made_of_anything() {
    assert_eq!(id("code", "a b/c").as_str(), "code-a-b-c");
    assert_eq!(id("code", &"x".repeat(500)).as_str().len(), 128);
}
