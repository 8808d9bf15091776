//! A consistent copy of the file while other processes write to it.

use std::{path::Path, time::Duration};

use sqlx::{Connection, query, query_scalar, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

use crate::{Result, SqliteError, file::connect, schema::version};

/// Upper bound of one copy with its verification: 1 h, enough for a file of several hundred gigabytes on a local disk.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Result of [`copy_into`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Size of the copy, in bytes.
    pub bytes: u64,
    /// Last migration of the copy's schema.
    pub version: i64,
}

/// Copies the whole database, the tables of the store and of the bus, into `target` and verifies the copy. The copy is the
/// state of one moment; writers are not blocked. Rows that were deleted are not in it, as the pages are written anew.
///
/// `target` must be an empty file: its mode stays, and SQLite refuses a file with content. It is synced to the disk before
/// this function returns. After a failure it is incomplete.
///
/// # Errors
/// SQLite's own errors; [`SqliteError::File`] when the copy is damaged; [`SqliteError::TimedOut`] after an hour.
pub async fn copy_into(source: &SqliteConnectOptions, target: &Path) -> Result<Backup> {
    timeout(DEADLINE, copy_and_verify(source, target)).await.map_err(|_| SqliteError::TimedOut(DEADLINE))?
}

async fn copy_and_verify(source: &SqliteConnectOptions, target: &Path) -> Result<Backup> {
    let Some(path) = target.to_str() else {
        let message = "its path is not valid UTF-8; choose another one".to_owned();
        return Err(SqliteError::File { path: target.to_owned(), message });
    };
    let mut connection = connect(source, DEADLINE).await?;
    // In one read transaction: the write-ahead log keeps the pages that others replace meanwhile.
    query("vacuum into ?1").bind(path).execute(&mut connection).await?;
    connection.close().await?;
    let backup = verify(target).await?;
    let file = tokio::fs::File::open(target).await.map_err(|error| unusable(target, &error.to_string()))?;
    file.sync_all().await.map_err(|error| unusable(target, &error.to_string()))?;
    Ok(backup)
}

/// Reads the whole copy: its pages, its indexes and its references between tables.
async fn verify(path: &Path) -> Result<Backup> {
    // Without `-wal` and `-shm` files beside it: no other process uses the copy.
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    let mut connection = connect(&options, DEADLINE).await?;
    let found: String = query_scalar("pragma integrity_check(1)").fetch_one(&mut connection).await?;
    if found != "ok" {
        return Err(unusable(path, &format!("the copy is damaged ({found}); check the disk and try again")));
    }
    let dangling =
        query("select 1 from pragma_foreign_key_check limit 1").fetch_optional(&mut connection).await?;
    if dangling.is_some() {
        return Err(unusable(path, "rows of the copy refer to rows that do not exist; check the source"));
    }
    let pages: i64 = query_scalar("select page_count * page_size from pragma_page_count, pragma_page_size")
        .fetch_one(&mut connection)
        .await?;
    let version = version(&mut connection).await?;
    connection.close().await?;
    Ok(Backup { bytes: pages.unsigned_abs(), version })
}

fn unusable(path: &Path, message: &str) -> SqliteError {
    SqliteError::File { path: path.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{migrate, options, prepare};

    const BUSY: Duration = Duration::from_secs(10);

    async fn source(folder: &Path) -> SqliteConnectOptions {
        let path = folder.join("source.db");
        prepare(&path, true).unwrap();
        let options = options(&path, BUSY);
        crate::verify(&options, BUSY).await.unwrap();
        migrate(&options).await.unwrap();
        options
    }

    #[tokio::test]
    async fn copy_into_during_an_open_write_transaction_holds_what_was_committed() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path()).await;
        let mut writer = connect(&source, BUSY).await.unwrap();
        let insert =
            |n: i64| query("insert into job_ticks (name, tick_at) values ('backup ' || ?1, 0)").bind(n);
        insert(1).execute(&mut writer).await.unwrap();
        let mut open = writer.begin().await.unwrap();
        insert(2).execute(&mut *open).await.unwrap();

        let target = folder.path().join("copy.db");
        File::create(&target).unwrap();
        let backup = copy_into(&source, &target).await.unwrap();
        open.commit().await.unwrap();

        let rows = async |options: &SqliteConnectOptions| {
            let mut db = connect(options, BUSY).await.unwrap();
            let rows: i64 = query_scalar("select count(*) from job_ticks").fetch_one(&mut db).await.unwrap();
            rows
        };
        assert_eq!(rows(&options(&target, BUSY)).await, 1);
        assert_eq!(rows(&source).await, 2);
        assert_eq!(backup.bytes, std::fs::metadata(&target).unwrap().len());
        assert!(backup.version > 0, "{backup:?}");
    }

    #[tokio::test]
    async fn copy_into_file_with_content_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path()).await;
        let target = folder.path().join("copy.db");
        std::fs::write(&target, "mine").unwrap();
        copy_into(&source, &target).await.unwrap_err();
        assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn copy_into_with_dangling_reference_in_the_source_fails() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path()).await;
        // A reference to nothing, which an ordinary connection refuses.
        let mut db = connect(&source.clone().foreign_keys(false), BUSY).await.unwrap();
        for statement in [
            "create table parents (id integer primary key)",
            "create table children (parent integer references parents)",
            "insert into children values (1)",
        ] {
            query(statement).execute(&mut db).await.unwrap();
        }
        db.close().await.unwrap();
        let target = folder.path().join("copy.db");
        File::create(&target).unwrap();
        let error = copy_into(&source, &target).await.unwrap_err().to_string();
        assert!(error.contains("refer to rows that do not exist"), "{error}");
    }
}
