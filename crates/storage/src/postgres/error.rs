use std::time::Duration;

use sqlx::Error;

use crate::StorageError;

pub(super) fn too_late(during: &'static str, deadline: Duration) -> StorageError {
    StorageError::Unavailable { during, message: format!("no answer within {deadline:?}") }
}

/// Driver errors speak of codes, constraints and columns, not of values or the connection string; where the driver
/// could quote what it was given, its words are replaced.
pub(super) fn translate(during: &'static str, error: &Error) -> StorageError {
    let message = match error {
        Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let message = format!("{} ({code})", database.message());
            return if is_transient(&code) {
                StorageError::Unavailable { during, message }
            } else {
                StorageError::Refused { during, message }
            };
        }
        Error::Configuration(_) => {
            let message =
                "DATABASE_URL is not of the form postgres://user:password@host:port/database".to_owned();
            return StorageError::Refused { during, message };
        }
        Error::PoolTimedOut => "no connection became free or could be made in time".to_owned(),
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::PoolClosed | Error::WorkerCrashed => {
            error.to_string()
        }
        Error::ColumnDecode { index, .. } => {
            let message = format!("column {index} is not of the expected type");
            return StorageError::Refused { during, message };
        }
        Error::Decode(_) | Error::Encode(_) | Error::InvalidArgument(_) => {
            let message = "a value is not of the expected type".to_owned();
            return StorageError::Refused { during, message };
        }
        _ => return StorageError::Refused { during, message: error.to_string() },
    };
    StorageError::Unavailable { during, message }
}

/// Whether a SQLSTATE tells of the server's condition rather than of our statement.
fn is_transient(code: &str) -> bool {
    const CLASSES: [&str; 6] = [
        "08", // connection exception
        "28", // not let in: passwords change while processes run
        "40", // deadlock, serialization failure
        "53", // out of connections, disk or memory
        "57", // shutting down, starting up, statement timeout
        "58", // the server's disk
    ];
    const CODES: [&str; 3] = [
        "3D000", // no such database (yet)
        "55P03", // lock timeout
        "25006", // read only: a replica after failover
    ];
    CLASSES.iter().any(|class| code.starts_with(class)) || CODES.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_url_is_not_quoted() {
        let error = "postgres://me:s3cret@[db/x".parse::<sqlx::postgres::PgConnectOptions>().unwrap_err();
        let error = translate("connecting", &error);
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        assert!(!error.is_transient());
    }

    #[test]
    fn the_servers_trouble_is_worth_a_retry_and_ours_is_not() {
        for code in ["08006", "28P01", "40P01", "53300", "57014", "57P01", "55P03", "25006"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["23505", "23514", "42P01", "22001", "55000", ""] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
