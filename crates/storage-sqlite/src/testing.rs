//! SQLite files that a test creates and removes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_storage::{Cipher, Store, conformance::Backend, testing::test_cipher};
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::store::{SqliteOptions, SqliteStore};

/// A migrated SQLite file for one test, in a temporary folder, removed with this value.
#[derive(Debug)]
pub struct TestSqlite {
    folder: TempDir,
}

impl TestSqlite {
    /// Creates a file with the current schema.
    ///
    /// # Panics
    /// When the file cannot be created.
    pub async fn create() -> Self {
        let database = Self::create_empty();
        let store = database.store().await;
        store.migrate().await.unwrap();
        store.close().await;
        database
    }

    /// Creates the folder without a file.
    ///
    /// # Panics
    /// When the system has no folder for temporary files.
    #[must_use]
    pub fn create_empty() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("larkauth.db")
    }

    /// Returns the options of a store on this file: created if missing, 4 readers, a deadline of 10 s.
    #[must_use]
    pub fn options(&self) -> SqliteOptions {
        SqliteOptions {
            path: self.path(),
            create: true,
            max_readers: 4,
            statement_deadline: Duration::from_secs(10),
        }
    }

    /// Opens a store with [`test_cipher`]. Each store has its own connections, as in another process.
    ///
    /// # Panics
    /// When the file cannot be opened.
    pub async fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.options(), test_cipher()).await.unwrap()
    }

    /// Opens a connection without a store, to inspect or change rows directly.
    ///
    /// # Panics
    /// When the file cannot be opened.
    pub async fn connection(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path()).connect().await.unwrap()
    }
}

#[async_trait]
impl Backend for TestSqlite {
    async fn open(&self, cipher: Cipher) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.options(), cipher).await.unwrap())
    }
}
