use std::time::Duration;

use bytes::Bytes;
use larkauth_contracts::message::{DecodeError, Reply};
use larkauth_lark::error::{ErrorKind, LarkError};
use larkauth_messaging::{BusError, Disposition};
use larkauth_storage::{CipherError, StorageError};

use crate::{consent::error::ConsentError, error::AuthError};

/// Why a handler did not finish, with the fate of the delivery.
#[derive(Debug)]
pub(super) enum HandlerError {
    /// The delivery comes again.
    Retry {
        /// The wait until then; the queue's backoff without one.
        after: Option<Duration>,
        /// For the log.
        reason: String,
    },
    /// The delivery becomes a dead letter.
    DeadLetter(String),
    /// The same, with a reply for the publisher.
    Refused {
        /// For the operator.
        reason: String,
        /// The reply.
        reply: Reply,
    },
}

/// The result of a handler, with the reply if the publisher waits for one.
pub(super) type HandlerResult = Result<Option<Reply>, HandlerError>;

impl HandlerError {
    /// Returns the error of a message type that the queue does not know.
    pub(super) fn unknown_type() -> Self {
        Self::DeadLetter("a message type this queue does not know".to_owned())
    }

    const fn retry(reason: String) -> Self {
        Self::Retry { after: None, reason }
    }
}

impl From<StorageError> for HandlerError {
    /// An operator corrects even what does not pass by itself (a missing key, an old schema), so it is retried.
    fn from(error: StorageError) -> Self {
        Self::retry(error.to_string())
    }
}
impl From<BusError> for HandlerError {
    fn from(error: BusError) -> Self {
        Self::retry(error.to_string())
    }
}
impl From<CipherError> for HandlerError {
    fn from(error: CipherError) -> Self {
        match error {
            CipherError::UnknownKey(_) | CipherError::NoKey => Self::retry(error.to_string()),
            CipherError::Malformed | CipherError::Rejected(_) | CipherError::BadKeyId(_) => {
                Self::DeadLetter(format!("a sealed secret in it: {error}"))
            }
        }
    }
}
impl From<DecodeError> for HandlerError {
    fn from(error: DecodeError) -> Self {
        Self::DeadLetter(error.to_string())
    }
}
impl From<LarkError> for HandlerError {
    fn from(error: LarkError) -> Self {
        let reason = error.to_string();
        match error.kind {
            ErrorKind::Transient | ErrorKind::Unknown | ErrorKind::App => Self::retry(reason),
            ErrorKind::RateLimited => Self::Retry { after: error.retry_after, reason },
            _ => Self::DeadLetter(reason),
        }
    }
}
impl From<AuthError> for HandlerError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Storage(error) => error.into(),
            AuthError::Bus(error) => error.into(),
            AuthError::Lark(error) => error.into(),
            AuthError::Cipher(error) => error.into(),
            AuthError::AppFrozen { .. }
            | AuthError::AppNotFound(_)
            | AuthError::AppDisabled(_)
            | AuthError::SecretUnreadable(_)
            | AuthError::EncryptionKeyMissing { .. }
            | AuthError::ForeignEncryptionKeys(_) => Self::retry(error.to_string()),
            _ => Self::DeadLetter(error.to_string()),
        }
    }
}
impl From<ConsentError> for HandlerError {
    fn from(error: ConsentError) -> Self {
        match error {
            ConsentError::Retry { after, reason } => Self::Retry { after, reason },
            ConsentError::Auth(error) => error.into(),
        }
    }
}

/// Maps the result of a handler to the fate of its delivery.
pub(super) fn into_disposition(result: HandlerResult) -> Disposition {
    match result {
        Ok(None) => Disposition::DONE,
        Ok(Some(reply)) => Disposition::Done { reply: encode(&reply) },
        Err(HandlerError::Retry { after, reason }) => Disposition::Retry { after, reason },
        Err(HandlerError::DeadLetter(reason)) => Disposition::Dead { reason, reply: None },
        Err(HandlerError::Refused { reason, reply }) => Disposition::Dead { reason, reply: encode(&reply) },
    }
}

fn encode(reply: &Reply) -> Option<Bytes> {
    serde_json::to_vec(reply)
        .inspect_err(|error| tracing::error!(%error, "auth.reply.encode"))
        .ok()
        .map(Into::into)
}
