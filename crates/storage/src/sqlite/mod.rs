//! One SQLite file behind the traits of this crate, for a single machine. Any number of processes may have it open.
//!
//! What a call confirmed is on the disk: the write-ahead log is synced at every commit, so neither a killed process nor
//! a power failure takes it back. One connection writes, in the order of the calls; others read beside it.

mod api_keys;
mod applications;
mod columns;
mod creation;
mod error;
mod events;
mod exchange;
mod file;
mod job_ticks;
mod people;
#[cfg(test)]
mod plans;
mod portable;
mod schema;
mod sessions;

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool, query,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

use self::error::translate;
use crate::{Cipher, Result, Store, driver};

/// The log is cut back to this size (64 MiB) once it could be emptied after a burst.
const LOG_SIZE_LIMIT: &str = "67108864";

/// Starts a transaction that is going to write. One that started by reading could not wait for another writer: what it
/// has read would be out of date.
const BEGIN_WRITING: &str = "begin immediate";

/// How to open a SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file. SQLite keeps two more next to it, `…-wal` and `…-shm`, while it is open.
    pub path: PathBuf,
    /// Whether a missing file is made; otherwise it is an error.
    pub create: bool,
    /// At most so many connections that read; one more writes.
    pub max_readers: u32,
    /// How long one call of the store may take, waiting for other writers, here or in another process, included.
    pub statement_deadline: Duration,
}

/// One SQLite file. Cheap to clone; clones share the connections.
#[derive(Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    cipher: Cipher,
    deadline: Duration,
}

impl SqliteStore {
    /// Opens the file, to say early what is wrong, or makes an empty one. Only its owner may read it (mode 0600), which
    /// is made so if need be.
    ///
    /// # Errors
    /// [`StorageError::File`](crate::StorageError::File) when the file is missing, is no database, is damaged, or this
    /// process may not read and write it; [`StorageError::Unavailable`](crate::StorageError::Unavailable) when others
    /// keep it locked until the deadline.
    pub async fn open(options: &SqliteOptions, cipher: Cipher) -> Result<Self> {
        let deadline = options.statement_deadline;
        let connect = SqliteConnectOptions::new()
            .filename(&options.path)
            .busy_timeout(deadline)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            // Where the system's own sync stops at the disk's cache (macOS).
            .pragma("fullfsync", "on")
            .pragma("checkpoint_fullfsync", "on")
            .pragma("trusted_schema", "off")
            .pragma("journal_size_limit", LOG_SIZE_LIMIT)
            // Statements are not logged: what they are bound to is not for logs, and each caller has a span of its own.
            .disable_statement_logging();
        file::prepare(options)?;
        file::check(&connect, deadline).await?;
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(deadline)
                // A file does not go away as a server does.
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

    /// Lends a connection that may only read to `work` until the deadline.
    async fn read<T>(
        &self,
        during: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T> {
        driver::call(&self.readers, self.deadline, during, translate, work).await
    }

    /// Lends the connection that writes to `work` until the deadline.
    ///
    /// A statement outside of a transaction is committed when all its rows have been fetched: one that writes and gives
    /// rows back must not be stopped at the first of them.
    async fn write<T>(
        &self,
        during: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T> {
        driver::call(&self.writer, self.deadline, during, translate, work).await
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
    async fn ping(&self) -> Result<()> {
        self.read("answering a ping", async |db| {
            // The driver's own ping only asks its thread; this one looks at the file.
            query("select 1 from sqlite_schema limit 1").execute(db).await
        })
        .await?;
        Ok(())
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
    async fn connections_are_durable_and_strict() {
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
