//! The database file: creation with a restricted mode, and verification before use.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, ErrorKind},
    path::Path,
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Result, SqliteError,
    error::{is_busy, is_damage, is_denied},
};

const OWNER_ONLY: u32 = 0o600;
/// Pause before another attempt at a locked file.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// The write-ahead log is truncated to this size, in bytes (64 MiB), after a burst.
const LOG_SIZE_LIMIT: &str = "67108864";

/// Returns the options of every connection to the file. `busy_timeout` bounds the wait for other writers.
#[must_use]
pub fn options(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(busy_timeout)
        .foreign_keys(true)
        // A confirmed write survives a power failure: the log is synced at every commit.
        .synchronous(SqliteSynchronous::Full)
        // On macOS `fsync` does not flush the cache of the disk.
        .pragma("fullfsync", "on")
        .pragma("checkpoint_fullfsync", "on")
        .pragma("trusted_schema", "off")
        .pragma("journal_size_limit", LOG_SIZE_LIMIT)
        // Statements are not logged: their parameters are not for logs, and each caller has its own span.
        .disable_statement_logging()
}

/// Opens one connection. Retries while another process changes the journal mode; the busy timeout of SQLite does not
/// cover that.
///
/// # Errors
/// Fails with the driver's error, also when the file stayed locked until the deadline.
pub async fn connect(options: &SqliteConnectOptions, deadline: Duration) -> sqlx::Result<SqliteConnection> {
    let until = Instant::now() + deadline;
    loop {
        match options.connect().await {
            Err(error) if is_busy(&error) && Instant::now() < until => sleep(RETRY_AFTER).await,
            result => return result,
        }
    }
}

/// Creates a missing file if `create_missing` is set, and restricts the mode of the file to its owner (0600).
///
/// An existing file is never opened here: closing it would release the locks that other connections of this process
/// hold on the file (POSIX locks belong to the process).
///
/// # Errors
/// [`SqliteError::File`] when the file is missing, cannot be created, is no regular file or is read-only.
pub fn prepare(path: &Path, create_missing: bool) -> Result<()> {
    if create_missing {
        create(path).map_err(|error| unusable(path, not_created(&error)))?;
    }
    let metadata = fs::metadata(path).map_err(|error| unusable(path, not_found(&error)))?;
    if !metadata.is_file() {
        return Err(unusable(path, "it is not a file; correct DATABASE_URL".to_owned()));
    }
    if metadata.permissions().readonly() {
        return Err(unusable(path, "it is read-only; make it writable (chmod 600)".to_owned()));
    }
    protect(path, &metadata).map_err(|error| unusable(path, format!("its mode cannot be set: {error}")))
}

fn create(path: &Path) -> io::Result<()> {
    // One creation at a time: SQLite must not open the file in this process before this handle is closed.
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock();
    let mut new = OpenOptions::new();
    new.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut new, OWNER_ONLY);
    match new.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Sets the mode of the database, its log and its shared memory. SQLite creates log and shared memory with the mode of
/// the database.
#[cfg(unix)]
fn protect(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::set_permissions(file, Permissions::from_mode(OWNER_ONLY)) {
            Err(error) if suffix.is_empty() || error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn protect(_: &Path, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

fn not_created(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "its folder does not exist; make it, or correct DATABASE_URL".to_owned(),
        ErrorKind::PermissionDenied => {
            "this user may not make files in its folder; allow it, or correct DATABASE_URL".to_owned()
        }
        _ => error.to_string(),
    }
}

fn not_found(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "it does not exist; make it with `larkauth migrate`, or correct DATABASE_URL".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Opens one connection, switches the file to write-ahead logging permanently, and closes the connection.
///
/// # Errors
/// [`SqliteError::File`] when the file is no database, damaged, not permitted, or on a file system without support for
/// the write-ahead log; [`SqliteError::TimedOut`] when it stays locked until the deadline.
pub async fn verify(options: &SqliteConnectOptions, deadline: Duration) -> Result<()> {
    let options = options.clone().journal_mode(SqliteJournalMode::Wal);
    let path = options.get_filename();
    let until = Instant::now() + deadline;
    let attempt = async || {
        let mut connection = options.connect().await?;
        let mode: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(mode)
    };
    let mode = loop {
        match timeout_at(until, attempt()).await {
            Ok(Ok(mode)) => break mode,
            // Several processes change the mode at the first start; the busy timeout of SQLite does not cover that.
            Ok(Err(error)) if is_busy(&error) && Instant::now() < until => sleep(RETRY_AFTER).await,
            Ok(Err(error)) if is_damage(&error) => {
                let message = "it is no SQLite database, or a damaged one; restore it from a backup, or correct \
                               DATABASE_URL";
                return Err(unusable(path, message.to_owned()));
            }
            Ok(Err(error)) if is_denied(&error) => {
                let message = "this user may not read and write it, and make files next to it; allow that";
                return Err(unusable(path, message.to_owned()));
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(SqliteError::TimedOut(deadline)),
        }
    };
    if mode != "wal" {
        let message = "its file system does not support SQLite's write-ahead log; put it on a local disk";
        return Err(unusable(path, message.to_owned()));
    }
    Ok(())
}

fn unusable(path: &Path, message: String) -> SqliteError {
    SqliteError::File { path: path.to_owned(), message }
}
