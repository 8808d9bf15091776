//! The SQLite file: how it is opened, and whether its schema is the one that this build was made for.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    migrate::{MigrateError, Migrator},
    query_as, query_scalar,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::time::{Instant, sleep, timeout};

use crate::BusError;

/// All of the file's tables; the store's are among them.
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");
/// Long enough to rebuild a large table, short enough to notice that nothing moves.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// The log is cut back to this size (64 MiB) once it could be emptied after a burst.
const LOG_SIZE_LIMIT: &str = "67108864";
/// `SQLITE_BUSY`.
const BUSY: i32 = 5;

/// How connections to the file are made. `patience` is for waiting on other writers.
pub(super) fn options(path: &Path, patience: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(patience)
        .journal_mode(SqliteJournalMode::Wal)
        // A confirm is a promise even if the power fails: the log is synced at every commit.
        .synchronous(SqliteSynchronous::Full)
        // Where the system's own sync stops at the disk's cache (macOS).
        .pragma("fullfsync", "on")
        .pragma("checkpoint_fullfsync", "on")
        .pragma("trusted_schema", "off")
        .pragma("journal_size_limit", LOG_SIZE_LIMIT)
        .disable_statement_logging()
}

/// Looks at the file before it is used. Gives its path without links and dots.
///
/// # Errors
/// [`BusError::Unavailable`] when it cannot be opened, [`BusError::Topology`] when its schema is another.
pub(super) async fn check(path: &Path, patience: Duration) -> Result<PathBuf, BusError> {
    let during = "opening the database";
    let path = std::fs::canonicalize(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            unusable(during, path, "does not exist; make it with `larkauth migrate`, or correct the path")
        }
        _ => unusable(during, path, &format!("cannot be opened: {error}")),
    })?;
    let checking = async {
        let mut connection = connect(&path, patience).await?;
        let applied = applied(&mut connection).await?;
        connection.close().await?;
        Ok(applied)
    };
    let applied = timeout(2 * patience, checking)
        .await
        .map_err(|_| unusable(during, &path, "did not open in time"))?
        .map_err(|error| unusable(during, &path, &format!("cannot be used: {}", describe(&error))))?;
    compare(&applied).map_err(BusError::Topology)?;
    Ok(path)
}

/// Makes the file if there is none, for its owner's eyes only, and brings its schema up to date, altogether or not at all.
pub(super) async fn migrate(path: &Path) -> Result<(), BusError> {
    let during = "migrating the database";
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // One that is there is not touched here: closing it would take away the locks that SQLite holds on it.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(unusable(during, path, &format!("cannot be made: {error}")));
        }
        _ => {}
    }
    let work = async {
        let mut connection = connect(path, MIGRATION_DEADLINE).await?;
        // One transaction, so that of several processes one does it and the others wait.
        let mut tx = connection.begin_with("begin immediate").await?;
        MIGRATIONS.run_direct(None, &mut *tx, false).await?;
        tx.commit().await?;
        connection.close().await?;
        Ok(())
    };
    match timeout(MIGRATION_DEADLINE, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(MigrateError::VersionMissing(version))) => Err(BusError::Topology(newer(version))),
        Ok(Err(MigrateError::VersionMismatch(version))) => Err(BusError::Topology(edited(version))),
        Ok(Err(error)) => Err(unusable(during, path, &format!("was left as it is: {error}"))),
        Err(_) => Err(unusable(during, path, "did not answer in time")),
    }
}

/// SQLite itself does not wait when the journal's mode is changed, as several processes do at the very first start.
pub(super) async fn connect(path: &Path, patience: Duration) -> sqlx::Result<SqliteConnection> {
    let (options, until) = (options(path, patience), Instant::now() + patience);
    loop {
        match options.connect().await {
            Err(error) if is_busy(&error) && Instant::now() < until => sleep(Duration::from_millis(10)).await,
            result => return result,
        }
    }
}

/// Versions and checksums of the migrations that the file has.
async fn applied(db: &mut SqliteConnection) -> sqlx::Result<BTreeMap<i64, Vec<u8>>> {
    // The table is the migrator's and comes into being with its first run.
    let exists: bool =
        query_scalar("select exists(select 1 from sqlite_schema where name = '_sqlx_migrations')")
            .fetch_one(&mut *db)
            .await?;
    if !exists {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i64, Vec<u8>)> =
        query_as("select version, checksum from _sqlx_migrations where success").fetch_all(db).await?;
    Ok(rows.into_iter().collect())
}

fn compare(applied: &BTreeMap<i64, Vec<u8>>) -> Result<(), String> {
    for (version, checksum) in applied {
        match MIGRATIONS.iter().find(|known| known.version == *version) {
            None => return Err(newer(*version)),
            Some(known) if known.checksum.as_ref() != checksum.as_slice() => return Err(edited(*version)),
            Some(_) => {}
        }
    }
    let pending: Vec<_> = MIGRATIONS
        .iter()
        .map(|known| known.version)
        .filter(|version| !applied.contains_key(version))
        .collect();
    if !pending.is_empty() {
        return Err(format!("migrations {pending:?} have not been applied; run `larkauth migrate`"));
    }
    Ok(())
}

fn newer(version: i64) -> String {
    format!("it has migration {version}, which this build does not know; run the newer build that applied it")
}

fn edited(version: i64) -> String {
    format!(
        "migration {version} was applied in another wording than this build has; run the build that applied it"
    )
}

fn unusable(during: &'static str, path: &Path, what: &str) -> BusError {
    BusError::Unavailable { during, message: format!("{} {what}", path.display()) }
}

fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    // The primary code is an extended one's lowest byte.
    code.is_some_and(|code| code & 0xff == BUSY)
}

/// The driver's words speak of tables and columns, not of what is in them; where it could quote a value, they are replaced.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::ColumnDecode { index, .. } => format!("column {index} is not of the expected type"),
        sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => "a value is not of the expected type".to_owned(),
        sqlx::Error::Io(error) => io_words(error),
        other => other.to_string(),
    }
}

fn io_words(error: &io::Error) -> String {
    error.kind().to_string()
}
