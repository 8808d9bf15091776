//! SQLite files that a test creates and removes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_storage::{Cipher, Store, conformance::Backend, testing::test_cipher};
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::store::{SqliteOptions, SqliteStore};

/// A SQLite file of its own in a temporary folder, migrated, removed with this value.
#[derive(Debug)]
pub struct TestSqlite {
    folder: TempDir,
}

impl TestSqlite {
    /// Makes one with the current schema.
    ///
    /// # Panics
    /// When there is no room for it.
    pub async fn create() -> Self {
        let database = Self::create_empty();
        let store = database.store().await;
        store.migrate().await.unwrap();
        store.close().await;
        database
    }

    /// Makes a folder for one, without the file.
    ///
    /// # Panics
    /// When the system has no folder for temporary files.
    #[must_use]
    pub fn create_empty() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("larkauth.db")
    }

    /// Options that open it: 4 readers, a deadline of 10 s, made if missing.
    #[must_use]
    pub fn options(&self) -> SqliteOptions {
        SqliteOptions {
            path: self.path(),
            create: true,
            max_readers: 4,
            statement_deadline: Duration::from_secs(10),
        }
    }

    /// A store on it, with [`test_cipher`]; each call gives one with connections of its own, as another process would
    /// have.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub async fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.options(), test_cipher()).await.unwrap()
    }

    /// A bare connection, for looking behind the store's back.
    ///
    /// # Panics
    /// When it cannot be opened.
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
