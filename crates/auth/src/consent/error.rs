use std::time::Duration;

use larkauth_lark::error::LarkError;
use larkauth_messaging::BusError;
use larkauth_storage::{CipherError, StorageError};

use crate::error::AuthError;

/// Why a click or a code was not handled. Logged by its text: the Debug form of a database's error quotes the refused row.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsentError {
    /// A later attempt may succeed.
    #[error("{reason}")]
    Retry {
        /// The wait until then; backoff without one.
        after: Option<Duration>,
        /// For the log.
        reason: String,
    },
    /// An operation failed.
    #[error(transparent)]
    Auth(AuthError),
}

impl From<AuthError> for ConsentError {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}
impl From<StorageError> for ConsentError {
    fn from(error: StorageError) -> Self {
        Self::Auth(error.into())
    }
}
impl From<BusError> for ConsentError {
    fn from(error: BusError) -> Self {
        Self::Auth(error.into())
    }
}
impl From<CipherError> for ConsentError {
    fn from(error: CipherError) -> Self {
        Self::Auth(error.into())
    }
}
impl From<LarkError> for ConsentError {
    fn from(error: LarkError) -> Self {
        Self::Auth(error.into())
    }
}
