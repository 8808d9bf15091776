use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use larkauth_models::Timestamp;
use larkauth_sqlite::{Backup, SqliteError};
use larkauth_storage::{Cipher, MigrationReport, PoolUsage, Result, Store, backend::driver};
use sqlx::{
    SqliteConnection, SqlitePool, query_scalar,
    sqlite::{SqlitePoolOptions, SqliteQueryResult},
};

use crate::error::{refused, translate};

/// How to open a SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file. While the file is open, SQLite keeps two more files next to it, `…-wal` and `…-shm`.
    pub path: PathBuf,
    /// Whether a missing file is created. Otherwise a missing file is an error.
    pub create: bool,
    /// Maximum number of reading connections. There is one writing connection in addition.
    pub max_readers: u32,
    /// Deadline of one call of the store, including the wait for writers of this and other processes.
    pub statement_deadline: Duration,
}

/// A store in one SQLite file. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    pub(crate) cipher: Cipher,
    deadline: Duration,
}

impl SqliteStore {
    /// Opens the file to detect errors early, or creates an empty file. Restricts the mode of the file to its owner
    /// (0600).
    ///
    /// # Errors
    /// [`StorageError::File`](larkauth_storage::StorageError::File) when the file is missing, is no database, is damaged, or this
    /// process may not read and write it; [`StorageError::Unavailable`](larkauth_storage::StorageError::Unavailable) when
    /// other processes keep the file locked until the deadline.
    pub async fn open(options: &SqliteOptions, cipher: Cipher) -> Result<Self> {
        const DURING: &str = "opening the file";
        let deadline = options.statement_deadline;
        let connect = larkauth_sqlite::options(&options.path, deadline);
        larkauth_sqlite::prepare(&options.path, options.create).map_err(|error| refused(DURING, error))?;
        larkauth_sqlite::verify(&connect, deadline).await.map_err(|error| refused(DURING, error))?;
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(deadline)
                // A connection to a file is not lost as a connection to a server is.
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        Ok(Self {
            writer: pool().max_connections(1).connect_lazy_with(connect.clone()),
            readers: pool()
                .max_connections(options.max_readers)
                .connect_lazy_with(connect.pragma("query_only", "on")),
            cipher,
            deadline,
        })
    }

    /// Brings the schema up to date, all migrations or none. Of several processes one migrates and the others wait.
    ///
    /// # Errors
    /// Fails when a newer release has contracted the schema, a migration was changed after it had been applied, SQLite
    /// refuses a statement, or the run takes longer than 15 minutes.
    pub async fn migrate(&self) -> Result<MigrationReport> {
        let options = self.writer.connect_options();
        let report = larkauth_sqlite::migrate(&options).await.map_err(|error| refused("migrating", error))?;
        Ok(MigrationReport { applied: report.applied, version: report.version })
    }

    /// Checks that the schema has what this build needs. Changes nothing. Returns the migrations of a newer release.
    ///
    /// # Errors
    /// [`StorageError::Schema`](larkauth_storage::StorageError::Schema) when the schema differs, with what to do.
    pub async fn check_schema(&self) -> Result<Vec<i64>> {
        const DURING: &str = "checking the schema";
        let checked = self
            .read(DURING, async |db| match larkauth_sqlite::check_schema(db).await {
                Err(SqliteError::Driver(error)) => Err(error),
                checked => Ok(checked),
            })
            .await?;
        checked.map_err(|error| refused(DURING, error))
    }

    /// Copies the whole file, also the tables of the embedded bus, into the empty file `target` and verifies the copy. The copy
    /// is the state of one moment; writers of this and other processes go on.
    ///
    /// # Errors
    /// When the copy cannot be written, is damaged, or takes longer than an hour. It is incomplete then.
    pub async fn backup(&self, target: &Path) -> Result<Backup> {
        let options = self.writer.connect_options();
        larkauth_sqlite::copy_into(&options, target).await.map_err(|error| refused("making a backup", error))
    }

    /// Lends a read-only connection to `work` until the deadline.
    pub(crate) async fn read<T>(
        &self,
        during: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T> {
        driver::call(&self.readers, self.deadline, during, translate, work).await
    }

    /// Lends the writing connection to `work` until the deadline.
    ///
    /// A statement outside of a transaction is committed when all its rows have been fetched. `work` must fetch all
    /// rows of a statement that writes and returns rows.
    pub(crate) async fn write<T>(
        &self,
        during: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T> {
        driver::call(&self.writer, self.deadline, during, translate, work).await
    }

    /// Runs a statement that changes one row or none. Returns whether it changed one.
    pub(crate) async fn change(
        &self,
        during: &'static str,
        statement: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<SqliteQueryResult>,
    ) -> Result<bool> {
        Ok(self.write(during, statement).await?.rows_affected() == 1)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.writer.connect_options();
        f.debug_struct("SqliteStore").field("path", &options.get_filename()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<Timestamp> {
        let micros = self
            .read("answering a ping", async |db| {
                // The time alone would not access the file.
                query_scalar!(
                    r#"select cast(unixepoch('subsec') * 1000000 as integer) as "micros!: i64"
                       where (select count(*) from sqlite_schema) >= 0"#
                )
                .fetch_one(db)
                .await
            })
            .await?;
        Ok(Timestamp::from_timestamp_micros(micros).unwrap_or_default())
    }

    async fn size(&self) -> Result<u64> {
        let size: i64 = self
            .read("measuring the file", async |db| {
                query_scalar!(
                    r#"select page_count * page_size as "size!: i64" from pragma_page_count(), pragma_page_size()"#
                )
                .fetch_one(db)
                .await
            })
            .await?;
        Ok(size.unsigned_abs())
    }

    fn pool_usage(&self) -> PoolUsage {
        driver::usage(&[&self.readers, &self.writer])
    }

    async fn close(&self) {
        driver::close(&self.readers, self.deadline).await;
        driver::close(&self.writer, self.deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TestSqlite;

    #[tokio::test]
    async fn open_every_connection_has_durable_pragmas() {
        let database = TestSqlite::create().await;
        let store = database.store().await;
        for (pragma, writer, reader) in [
            ("pragma journal_mode", "wal", "wal"),
            ("select cast(synchronous as text) from pragma_synchronous", "2", "2"),
            ("select cast(foreign_keys as text) from pragma_foreign_keys", "1", "1"),
            ("select cast(trusted_schema as text) from pragma_trusted_schema", "0", "0"),
            ("select cast(query_only as text) from pragma_query_only", "0", "1"),
        ] {
            for (pool, expected) in [(&store.writer, writer), (&store.readers, reader)] {
                let value: String = sqlx::query_scalar(pragma).fetch_one(pool).await.unwrap();
                assert_eq!(value, expected, "{pragma}");
            }
        }
    }
}
