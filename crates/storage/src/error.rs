use std::path::PathBuf;

use crate::CipherError;

/// Failure of a call of the store.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database did not answer in time, refused the connection or closed it. The call can be retried.
    #[error("the database is unavailable ({during}): {message}{}", cure(message))]
    Unavailable {
        /// The operation.
        during: &'static str,
        /// Message of the driver, without the connection string. A cure of its own, after a semicolon, replaces the usual one.
        message: String,
    },
    /// A stored value cannot be opened with the configured keys. Callers must not treat this as "not authorized".
    #[error("{table}.{column} of row {row} cannot be decrypted: {source}")]
    Undecryptable {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Key of the row, which is not secret.
        row: String,
        /// Reason.
        source: CipherError,
    },
    /// A stored row violates a rule of its type.
    #[error("{table} row {row} is broken: {message}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Key of the row, which is not secret.
        row: String,
        /// The rule.
        message: String,
    },
    /// The database's schema is not the one that this build needs. The message says what to do.
    #[error("the database schema does not fit this build: {0}")]
    Schema(String),
    /// The file of an embedded database cannot be used. The message says what to do.
    #[error("the database file {} cannot be used: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        message: String,
    },
    /// The database refused the statement. This is a defect of this program, not of the database.
    #[error("the database refused ({during}): {message}")]
    Refused {
        /// The operation.
        during: &'static str,
        /// Message of the driver, without values.
        message: String,
    },
}

/// Returns what to do about a database that is unavailable, unless the message ends with that.
fn cure(message: &str) -> &'static str {
    if message.contains("; ") { "" } else { "; check that it runs and that DATABASE_URL points to it" }
}

impl StorageError {
    /// Returns whether the same call can succeed later without a change of settings, schema or data.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Returns whether a single row is the cause, so that other rows can be read.
    #[must_use]
    pub const fn is_of_one_row(&self) -> bool {
        matches!(self, Self::Undecryptable { .. } | Self::Corrupt { .. })
    }
}
