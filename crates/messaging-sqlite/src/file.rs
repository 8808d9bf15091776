//! Use of the SQLite file through `larkauth-sqlite`, with errors of the bus.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use larkauth_messaging::BusError;
use larkauth_sqlite::SqliteError;
use sqlx::Connection;
use tokio::time::timeout;

/// Longest wait for other writers of the file, 2 s.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Verifies the file and its schema. Returns its path without links and dots, which identifies it within the process.
///
/// # Errors
/// [`BusError::Unavailable`] when it cannot be opened, [`BusError::Topology`] when its schema is another.
pub(crate) async fn check(path: &Path) -> Result<PathBuf, BusError> {
    const DURING: &str = "opening the database";
    let checking = async {
        larkauth_sqlite::prepare(path, false)?;
        let path = std::fs::canonicalize(path)
            .map_err(|error| SqliteError::File { path: path.to_owned(), message: error.to_string() })?;
        let options = larkauth_sqlite::options(&path, BUSY_TIMEOUT);
        larkauth_sqlite::verify(&options, BUSY_TIMEOUT).await?;
        let mut connection = larkauth_sqlite::connect(&options, BUSY_TIMEOUT).await?;
        larkauth_sqlite::check_schema(&mut connection).await?;
        connection.close().await?;
        Ok(path)
    };
    let deadline = 2 * BUSY_TIMEOUT;
    let checked = timeout(deadline, checking).await.unwrap_or(Err(SqliteError::TimedOut(deadline)));
    checked.map_err(|error| translate(DURING, error))
}

/// Creates the file if it is missing and brings its schema up to date.
///
/// # Errors
/// As [`check`].
pub(crate) async fn migrate(path: &Path) -> Result<(), BusError> {
    const DURING: &str = "migrating the database";
    let migrating = async {
        larkauth_sqlite::prepare(path, true)?;
        let options = larkauth_sqlite::options(path, BUSY_TIMEOUT);
        larkauth_sqlite::verify(&options, BUSY_TIMEOUT).await?;
        larkauth_sqlite::migrate(&options).await
    };
    migrating.await.map(drop).map_err(|error| translate(DURING, error))
}

fn translate(during: &'static str, error: SqliteError) -> BusError {
    let message = match error {
        SqliteError::Schema(message) => return BusError::Topology(message),
        SqliteError::Migration { version, source } => format!("migration {version}: {}", describe(&source)),
        SqliteError::Driver(error) => describe(&error),
        SqliteError::File { .. } | SqliteError::TimedOut(_) => error.to_string(),
    };
    BusError::Unavailable { during, message }
}

/// Describes a driver's error without values: its text names tables and columns only, and is replaced where it could
/// quote a value.
pub(crate) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::ColumnDecode { index, .. } => format!("column {index} is not of the expected type"),
        sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => "a value is not of the expected type".to_owned(),
        sqlx::Error::Io(error) => error.kind().to_string(),
        other => other.to_string(),
    }
}
