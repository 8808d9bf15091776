use larkauth_sqlite::{SqliteError, is_damage, is_transient};
use larkauth_storage::{StorageError, backend::driver};
use sqlx::Error;

/// Translates the driver's error.
pub(crate) fn translate(during: &'static str, error: &Error) -> StorageError {
    match driver::translate(during, error, is_transient) {
        StorageError::Refused { during, message } if is_damage(error) => StorageError::Refused {
            during,
            message: format!("{message}: the file is damaged, restore it from a backup"),
        },
        other => other,
    }
}

/// Translates an error of the file.
pub(crate) fn refused(during: &'static str, error: SqliteError) -> StorageError {
    match error {
        SqliteError::File { path, message } => StorageError::File { path, message },
        SqliteError::Schema(message) => StorageError::Schema(message),
        SqliteError::TimedOut(deadline) => driver::too_late(during, deadline),
        SqliteError::Migration { version, source } => match translate(during, &source) {
            StorageError::Refused { message, .. } => {
                StorageError::Refused { during, message: format!("migration {version}: {message}") }
            }
            other => other,
        },
        SqliteError::Driver(error) => translate(during, &error),
    }
}
