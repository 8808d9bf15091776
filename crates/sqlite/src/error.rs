use std::{path::PathBuf, time::Duration};

use sqlx::Error;

/// Failure to use the SQLite file.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// The file cannot be used. The message says what to do.
    #[error("the database file {} cannot be used: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        message: String,
    },
    /// The file's schema is not the one that this build needs. The message says what to do.
    #[error("{0}")]
    Schema(String),
    /// No answer within the deadline: other processes keep the file locked.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// A migration failed.
    #[error("migration {version}: {source}")]
    Migration {
        /// Number of the migration.
        version: i64,
        /// SQLite's own error.
        source: Error,
    },
    /// SQLite's own error.
    #[error(transparent)]
    Driver(#[from] Error),
}

/// `SQLITE_…` primary result codes.
const BUSY: i32 = 5;
const NOMEM: i32 = 7;
const READONLY: i32 = 8;
const INTERRUPT: i32 = 9;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const NOTADB: i32 = 26;

/// Returns whether the file is not a database, or a damaged one.
#[must_use]
pub fn is_damage(error: &Error) -> bool {
    matches!(primary(error), Some(CORRUPT | NOTADB))
}

/// Returns whether another connection has the file locked.
#[must_use]
pub fn is_busy(error: &Error) -> bool {
    primary(error) == Some(BUSY)
}

/// Returns whether the operating system refuses this process the use of the file.
#[must_use]
pub fn is_denied(error: &Error) -> bool {
    matches!(primary(error), Some(CANTOPEN | READONLY))
}

/// Returns whether a result code describes other processes, the disk or the machine rather than the statement.
#[must_use]
pub fn is_transient(result_code: &str) -> bool {
    matches!(
        code(result_code),
        Some(BUSY | NOMEM | READONLY | INTERRUPT | IOERR | FULL | CANTOPEN | PROTOCOL)
    )
}

fn primary(error: &Error) -> Option<i32> {
    error.as_database_error().and_then(|error| code(&error.code()?))
}

/// Parses a result code; the primary code of an extended one is its lowest byte.
#[must_use]
pub fn code(text: &str) -> Option<i32> {
    text.parse::<i32>().ok().map(|code| code & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_transient_machine_codes_true_statement_codes_false() {
        // Busy, busy with an old snapshot, out of memory, read-only, short read, disk full, cannot open.
        for code in ["5", "517", "7", "8", "522", "13", "14"] {
            assert!(is_transient(code), "{code}");
        }
        // Syntax, constraints, damage.
        for code in ["1", "19", "275", "787", "1555", "2067", "11", "26", ""] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
