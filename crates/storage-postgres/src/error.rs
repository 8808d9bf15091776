use sqlx::Error;

use larkauth_storage::{StorageError, backend::driver};

/// Translates the driver's error.
pub(crate) fn translate(during: &'static str, error: &Error) -> StorageError {
    if let Error::Configuration(_) = error {
        // The driver's message quotes the URL with its password.
        let message =
            "DATABASE_URL is not of the form postgres://user:password@host:port/database".to_owned();
        return StorageError::Refused { during, message };
    }
    driver::translate(during, error, is_transient)
}

/// Returns whether a SQLSTATE describes the condition of the server rather than the statement.
fn is_transient(code: &str) -> bool {
    const CLASSES: [&str; 6] = [
        "08", // connection exception
        "28", // invalid authorization: passwords are changed while processes run
        "40", // deadlock, serialization failure
        "53", // insufficient resources: connections, disk, memory
        "57", // operator intervention: shutdown, startup, statement timeout
        "58", // system error: disk of the server
    ];
    const CODES: [&str; 3] = [
        "3D000", // unknown database, for example not created yet
        "55P03", // lock timeout
        "25006", // read-only transaction: the server is a replica after a failover
    ];
    CLASSES.iter().any(|class| code.starts_with(class)) || CODES.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translate_malformed_url_hides_password() {
        let error = "postgres://me:s3cret@[db/x".parse::<sqlx::postgres::PgConnectOptions>().unwrap_err();
        let error = translate("connecting", &error);
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        assert!(!error.is_transient());
    }

    #[test]
    fn is_transient_server_codes_true_statement_codes_false() {
        for code in ["08006", "28P01", "40P01", "53300", "57014", "57P01", "55P03", "25006"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["23505", "23514", "42P01", "22001", "55000", ""] {
            assert!(!is_transient(code), "{code}");
        }
    }
}
