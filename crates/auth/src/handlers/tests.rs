use std::time::Duration;

use larkauth_contracts::message::{DecodeError, Reply};
use larkauth_lark::error::{Cause, ErrorKind, LarkError, MessageProblem, Outcome, ScopeHolder};
use larkauth_messaging::{BusError, Disposition};
use larkauth_models::{AppId, SessionId};
use larkauth_storage::{CipherError, StorageError};

use super::error::{HandlerError, into_disposition};
use crate::error::AuthError;

/// `Some(after)` for a retry, `None` for a dead letter.
fn retried(error: impl Into<HandlerError>) -> Option<Option<Duration>> {
    match into_disposition(Err(error.into())) {
        Disposition::Retry { after, reason } => {
            assert!(!reason.is_empty());
            Some(after)
        }
        Disposition::Dead { reason, .. } => {
            assert!(!reason.is_empty());
            None
        }
        Disposition::Done { .. } => panic!("an error is never done"),
    }
}

const AT_ONCE_OR_BY_BACKOFF: Option<Option<Duration>> = Some(None);

#[test]
fn infrastructure_errors_are_retried_unless_permanent() {
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
        assert_eq!(
            retried(error),
            AT_ONCE_OR_BY_BACKOFF,
            "an operator corrects it, nothing is lost meanwhile"
        );
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
fn lark_errors_are_retried_by_fault() {
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
        ErrorKind::DeviceCodeExpired,
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
fn application_errors_are_retried() {
    let app_id = AppId::new("cli_0123456789abcdef").unwrap();
    let other = app_id.clone();
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
        AuthError::OtherApplication { app_id: other, session_id },
        AuthError::AuthenticationRequired,
    ] {
        assert_eq!(retried(error), None);
    }
}

#[test]
fn success_is_done_with_or_without_reply() {
    assert_eq!(into_disposition(Ok(None)), Disposition::DONE);
    let Disposition::Done { reply: Some(body) } = into_disposition(Ok(Some(Reply::default()))) else {
        panic!("a reply")
    };
    assert_eq!(body, "{}");
}
