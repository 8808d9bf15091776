//! The database file itself: made with the right mode, and looked at before it is used.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, ErrorKind},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    SqliteOptions,
    error::{is_busy, is_damage, is_denied, translate},
};
use crate::{Result, StorageError, driver};

const OWNER_ONLY: u32 = 0o600;
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// Makes the file if it is wanted and missing, and sees to its mode.
///
/// A file that is there is never opened here: closing it again would take away the locks that other connections of this
/// process hold on it (POSIX locks belong to the process).
pub(super) fn prepare(options: &SqliteOptions) -> Result<()> {
    let path = &*options.path;
    if options.create {
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
    // While it is open for being made, nobody in this process may have opened it with SQLite.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut make = OpenOptions::new();
    make.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut make, OWNER_ONLY);
    match make.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// SQLite gives the log and the shared memory the mode of the database; those that are there already are told as well.
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

/// Connects once, and turns the file to write-ahead logging, which it then stays with.
pub(super) async fn check(connect: &SqliteConnectOptions, deadline: Duration) -> Result<()> {
    const DURING: &str = "opening the file";
    let connect = connect.clone().journal_mode(SqliteJournalMode::Wal);
    let path = connect.get_filename();
    let until = Instant::now() + deadline;
    let attempt = async || {
        let mut connection = connect.connect().await?;
        let mode: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(mode)
    };
    let mode = loop {
        match timeout_at(until, attempt()).await {
            Ok(Ok(mode)) => break mode,
            // SQLite itself does not wait when the mode is changed, as several processes do at the very first start.
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
            Ok(Err(error)) => return Err(translate(DURING, &error)),
            Err(_) => return Err(driver::too_late(DURING, deadline)),
        }
    };
    if mode != "wal" {
        let message = "its file system does not support SQLite's write-ahead log; put it on a local disk";
        return Err(unusable(path, message.to_owned()));
    }
    Ok(())
}

fn unusable(path: &Path, message: String) -> StorageError {
    StorageError::File { path: path.to_owned(), message }
}
