use sqlx::Error;

use crate::{StorageError, driver};

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

pub(super) fn translate(during: &'static str, error: &Error) -> StorageError {
    match driver::translate(during, error, is_transient) {
        StorageError::Refused { during, message } if is_damage(error) => StorageError::Refused {
            during,
            message: format!("{message}: the file is damaged, restore it from a backup"),
        },
        other => other,
    }
}

/// Whether the file is no database, or no whole one.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(primary(error), Some(CORRUPT | NOTADB))
}

/// Whether somebody else has the file locked.
pub(super) fn is_busy(error: &Error) -> bool {
    primary(error) == Some(BUSY)
}

/// Whether the operating system does not let this process use the file.
pub(super) fn is_denied(error: &Error) -> bool {
    matches!(primary(error), Some(CANTOPEN | READONLY))
}

fn primary(error: &Error) -> Option<i32> {
    error.as_database_error().and_then(|error| parse(&error.code()?))
}

/// The primary result code of an extended one is its lowest byte.
fn parse(code: &str) -> Option<i32> {
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

/// Whether a code tells of other processes, the disk or the machine rather than of our statement.
fn is_transient(code: &str) -> bool {
    matches!(parse(code), Some(BUSY | NOMEM | READONLY | INTERRUPT | IOERR | FULL | CANTOPEN | PROTOCOL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_trouble_is_worth_a_retry_and_ours_is_not() {
        // Busy, busy with a stale snapshot, out of memory, remounted read-only, a short read, disk full.
        for code in ["5", "517", "7", "8", "522", "13", "14"] {
            assert!(is_transient(code), "{code}");
        }
        // Syntax, constraints, damage.
        for code in ["1", "19", "275", "787", "1555", "2067", "11", "26", ""] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
