use larkauth_net::explain_tls;
use larkauth_storage::{StorageError, backend::driver};
use sqlx::Error;

/// Text of the driver for a server without TLS.
const NO_TLS: &str = "server does not support TLS";

/// Code of the server when it takes no more connections, of all or of this user.
const TOO_MANY_CONNECTIONS: &str = "53300";

/// Translates the driver's error.
pub(crate) fn translate(during: &'static str, error: &Error) -> StorageError {
    if let Error::Configuration(_) = error {
        // The driver's message quotes the URL with its password.
        let message =
            "DATABASE_URL is not of the form postgres://user:password@host:port/database".to_owned();
        return StorageError::Refused { during, message };
    }
    if let Some(message) = tls_fault(error) {
        return StorageError::Unavailable { during, message };
    }
    if let Error::Database(refused) = error
        && refused.code().as_deref() == Some(TOO_MANY_CONNECTIONS)
    {
        let message = format!(
            "it has no free connection: {} ({TOO_MANY_CONNECTIONS}); raise max_connections of the server, lower \
             DATABASE_MAX_CONNECTIONS of the processes, or put PgBouncer in front",
            refused.message()
        );
        return StorageError::Unavailable { during, message };
    }
    driver::translate(during, error, is_transient)
}

/// Explains an error of TLS.
fn tls_fault(error: &Error) -> Option<String> {
    if let Error::Tls(cause) = error
        && cause.to_string() == NO_TLS
    {
        return Some(
            "the server offers no TLS, which is the default for another machine; turn it on there, or add \
             `?sslmode=disable` to DATABASE_URL in a network you trust"
                .to_owned(),
        );
    }
    explain_tls(error, "DATABASE_CA_FILE")
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
    use std::{borrow::Cow, error::Error as StdError, fmt};

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// What the server answers, by its code.
    #[derive(Debug)]
    struct Answer(&'static str);

    impl fmt::Display for Answer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.message())
        }
    }

    impl StdError for Answer {}

    impl DatabaseError for Answer {
        fn message(&self) -> &str {
            "sorry"
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn translate_of_a_full_server_names_its_cure_only() {
        let full = translate("connecting", &Error::Database(Box::new(Answer("53300"))));
        let said = full.to_string();
        assert!(full.is_transient() && said.contains("no free connection: sorry (53300)"), "{said}");
        assert!(said.contains("DATABASE_MAX_CONNECTIONS") && said.contains("PgBouncer"), "{said}");
        assert!(!said.contains("DATABASE_URL"), "{said}");
        let starting = translate("connecting", &Error::Database(Box::new(Answer("57P03")))).to_string();
        assert!(starting.ends_with("check that it runs and that DATABASE_URL points to it"), "{starting}");
    }

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
