use std::time::Duration;

use larkauth_contracts::problem::seconds_to_wait;
use larkauth_lark::error::LarkError;
use larkauth_messaging::BusError;
use larkauth_models::{AppId, SessionId, UnreadableSecret};
use larkauth_storage::{CipherError, StorageError};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The caller's input breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// The caller's key does not reach that far.
    #[error("{0}")]
    Forbidden(String),
    /// The caller's key was revoked, or has expired, while the request waited.
    #[error("the API key was revoked or has expired while the request waited")]
    KeyRefused,
    /// No such application.
    #[error(
        "application {0} is not registered; set APP_ID and APP_SECRET, or register it with `larkauth apps add`"
    )]
    AppNotFound(AppId),
    /// An operator disabled the application.
    #[error("application {0} is switched off; `larkauth apps enable` switches it on")]
    AppDisabled(AppId),
    /// Lark refuses the application: the breaker is open, and nothing is sent to people.
    #[error(
        "Lark refuses application {app_id}: {reason}; correct the application in the developer console, then try again"
    )]
    AppFrozen {
        /// The application.
        app_id: AppId,
        /// Lark's words.
        reason: String,
    },
    /// The person was invited too often.
    #[error("this person was invited {max} times within {} s; try again in {} s", window.as_secs(), seconds_to_wait(*retry_after))]
    RateLimited {
        /// The limit.
        max: u32,
        /// The limit's window.
        window: Duration,
        /// Until the next invitation is allowed, in whole seconds.
        retry_after: Duration,
    },
    /// The person declined, did not answer or could not be asked a short time ago.
    #[error(
        "this person declined, did not answer or could not be reached before, and is left in peace for another {} s; \
         POST /v1/auth/sessions asks at once",
        seconds_to_wait(*retry_after)
    )]
    AskedRecently {
        /// Until the person is asked again, in whole seconds.
        retry_after: Duration,
    },
    /// No such session.
    #[error("there is no session {0}")]
    SessionNotFound(SessionId),
    /// A message of one application names the session of another.
    #[error("the message is of application {app_id}, and session {session_id} is of another application")]
    OtherApplication {
        /// The application of the message.
        app_id: AppId,
        /// The session.
        session_id: SessionId,
    },
    /// No valid token is stored.
    #[error("no token is stored for this person that could be served or refreshed")]
    AuthenticationRequired,
    /// The stored token has not all scopes that the caller requires.
    #[error("the token has not the scopes {}", missing.join(" "))]
    InsufficientScope {
        /// The required scopes that it has not.
        missing: Vec<String>,
        /// The scopes to ask the person for: the granted ones and the missing ones.
        ask_for: Vec<String>,
    },
    /// The caller gave the `Idempotency-Key` of another request.
    #[error(
        "this Idempotency-Key belongs to a request with another content; use a new key for a new request"
    )]
    IdempotencyKeyReused,
    /// Another caller refreshes the token, and no valid one is left.
    #[error("the token is being refreshed; try again in {} s", seconds_to_wait(*retry_after))]
    RefreshInProgress {
        /// Until the next attempt.
        retry_after: Duration,
    },
    /// Lark did not give a new token, and none that could be served instead.
    #[error("Lark does not give a new token at present; try again in {} s", seconds_to_wait(*retry_after))]
    UpstreamUnavailable {
        /// Until the next attempt.
        retry_after: Duration,
    },
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Lark failed.
    #[error(transparent)]
    Lark(#[from] LarkError),
    /// A file of this process could not be read or written.
    #[error("a file of the escrow spool: {0}; check ESCROW_SPOOL_DIR")]
    Spool(#[from] std::io::Error),
    /// A stored token cannot be read. An operator's fault, and never a reason to ask the person.
    #[error("the stored token cannot be read ({}): {}", .0.column, .0.reason)]
    SecretUnreadable(UnreadableSecret),
    /// Stored values may need encryption keys that this process does not have.
    #[error(
        "stored values may need the encryption keys {}, which this process does not have, and no person is invited until it \
         has them: put them back into ENCRYPTION_KEYS; `larkauth encryption-keys retire` retires a key that no value needs",
        key_ids.join(" and ")
    )]
    EncryptionKeyMissing {
        /// Their ids.
        key_ids: Vec<String>,
    },
    /// The keys of this process open none of the stored applications.
    #[error(
        "the encryption keys open none of the stored applications ({0}); use the ENCRYPTION_KEYS of this database, or the \
         DATABASE_URL of these keys"
    )]
    ForeignEncryptionKeys(String),
    /// A secret in a message could not be sealed or opened.
    #[error("a secret in a message: {0}")]
    Cipher(#[from] CipherError),
}
