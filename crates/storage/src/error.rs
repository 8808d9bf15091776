use std::path::PathBuf;

use crate::CipherError;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database did not answer in time, refused the connection or went away. Worth a retry.
    #[error(
        "the database is unavailable ({during}): {message}; check that it runs and that DATABASE_URL points to it"
    )]
    Unavailable {
        /// What was being done.
        during: &'static str,
        /// The driver's words, without the connection string.
        message: String,
    },
    /// A stored value cannot be read with the configured keys. Never taken for "not authorized".
    #[error("{table}.{column} of row {row} cannot be decrypted: {source}")]
    Undecryptable {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// The row's key, which is no secret.
        row: String,
        /// Why.
        source: CipherError,
    },
    /// A stored row breaks the rules of its type.
    #[error("{table} row {row} is broken: {message}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// The row's key, which is no secret.
        row: String,
        /// Which rule.
        message: String,
    },
    /// The database's schema is not the one this build needs; says what to do.
    #[error("the database schema does not fit this build: {0}")]
    Schema(String),
    /// The file of an embedded database cannot be used as it is; says what to do.
    #[error("the database file {} cannot be used: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The database refused the statement: our mistake.
    #[error("the database refused ({during}): {message}")]
    Refused {
        /// What was being done.
        during: &'static str,
        /// The driver's words, without values.
        message: String,
    },
}

impl StorageError {
    /// Whether the same call can succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether one row is at fault, so that others can be read.
    #[must_use]
    pub const fn is_of_one_row(&self) -> bool {
        matches!(self, Self::Undecryptable { .. } | Self::Corrupt { .. })
    }
}
