//! Which database, by settings.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use larkauth_config::{ConfigError, DatabaseUrl, Service, Settings};
use larkauth_models::{Entropy, ExposeSecret, OsEntropy, SecretString};
use larkauth_storage::{Cipher, EncryptionKey, MigrationReport, Store, transfer::Transfer};
use larkauth_storage_postgres::{PgOptions, PgStore, is_postgres_url};
use larkauth_storage_sqlite::{SqliteOptions, SqliteStore};
use zeroize::Zeroizing;

use crate::DataDir;

/// How long a start waits for the database.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one statement may take.
const STATEMENT: Duration = Duration::from_secs(5);

/// Where a database is.
#[derive(Clone, Debug)]
pub enum Database {
    /// A PostgreSQL server.
    Postgres(SecretString),
    /// A file.
    Sqlite(PathBuf),
}

/// A store by its kind, for work on the schema; everything else goes through [`Store`].
#[derive(Clone)]
pub enum AnyStore {
    /// On a PostgreSQL server.
    Postgres(PgStore),
    /// In a file.
    Sqlite(SqliteStore),
}

impl Database {
    /// The one of `DATABASE_URL`; without it, the data folder's.
    ///
    /// # Errors
    /// When a service that shares its database with others has none.
    pub fn of(settings: &Settings) -> anyhow::Result<Self> {
        match &settings.database.url {
            Some(url) => Ok(Self::from(url)),
            None if matches!(settings.service, Service::Standalone | Service::Command) => {
                Ok(Self::Sqlite(DataDir::new(&settings.data_dir).database()))
            }
            None => Ok(Self::from(settings.database.required_url()?)),
        }
    }

    /// Opens it; a missing file is made only if that is wanted.
    ///
    /// # Errors
    /// One line that says what is wrong and the cure.
    pub async fn open(&self, settings: &Settings, create: bool, cipher: Cipher) -> anyhow::Result<AnyStore> {
        Ok(match self {
            Self::Postgres(url) => {
                if !is_postgres_url(url) {
                    return Err(ConfigError::Invalid {
                        name: "DATABASE_URL".to_owned(),
                        problem: "the PostgreSQL driver does not take a part of the address".to_owned(),
                        cure: "give an address like `postgres://user:password@host:port/database`, and check its parameters"
                            .to_owned(),
                    }
                    .into());
                }
                let options = PgOptions {
                    url: url.clone(),
                    trust: settings.database.trust.clone(),
                    max_connections: settings.database.max_connections,
                    connect_deadline: CONNECT,
                    statement_deadline: STATEMENT,
                    application_name: settings.service.name().to_owned(),
                };
                AnyStore::Postgres(PgStore::connect(&options, cipher).await?)
            }
            Self::Sqlite(path) => {
                let options = SqliteOptions {
                    path: path.clone(),
                    create,
                    max_readers: settings.database.max_connections,
                    statement_deadline: STATEMENT,
                };
                AnyStore::Sqlite(SqliteStore::open(&options, cipher).await?)
            }
        })
    }

    /// Whether both are one existing database, also under different addresses. Changes nothing.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub async fn is_same(&self, other: &Self, settings: &Settings) -> anyhow::Result<bool> {
        match (self, other) {
            (Self::Sqlite(one), Self::Sqlite(other)) => Ok(is_same_file(one, other)),
            (Self::Postgres(_), Self::Postgres(_)) => {
                let one = self.open(settings, false, no_cipher()?).await.context("the source")?;
                let other = other.open(settings, false, no_cipher()?).await.context("the target")?;
                let mut key = [0; 8];
                OsEntropy.fill(&mut key);
                let same = match (&one, &other) {
                    (AnyStore::Postgres(one), AnyStore::Postgres(other)) => {
                        one.is_same_database(other, i64::from_ne_bytes(key)).await?
                    }
                    _ => false,
                };
                for store in [one, other] {
                    store.shared().close().await;
                }
                Ok(same)
            }
            (Self::Sqlite(_), Self::Postgres(_)) | (Self::Postgres(_), Self::Sqlite(_)) => Ok(false),
        }
    }
}

/// Returns whether both paths lead to one existing file, also through links.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

impl From<&DatabaseUrl> for Database {
    fn from(url: &DatabaseUrl) -> Self {
        match url {
            DatabaseUrl::Postgres(url) => Self::Postgres(url.clone()),
            DatabaseUrl::Sqlite(url) => {
                let path = url.expose_secret();
                let path = path.strip_prefix("sqlite:").unwrap_or(path);
                Self::Sqlite(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
            }
        }
    }
}

impl AnyStore {
    /// Brings the schema up to date.
    ///
    /// # Errors
    /// The store's.
    pub async fn migrate(&self) -> anyhow::Result<MigrationReport> {
        Ok(match self {
            Self::Postgres(store) => store.migrate().await?,
            Self::Sqlite(store) => store.migrate().await?,
        })
    }

    /// Checks that the schema has what this build needs. Returns the migrations of a newer release.
    ///
    /// # Errors
    /// When it has not, with the cure.
    pub async fn check_schema(&self) -> anyhow::Result<Vec<i64>> {
        Ok(match self {
            Self::Postgres(store) => store.check_schema().await?,
            Self::Sqlite(store) => store.check_schema().await?,
        })
    }

    /// For moving its rows to another one.
    #[must_use]
    pub fn transfer(&self) -> &dyn Transfer {
        match self {
            Self::Postgres(store) => store,
            Self::Sqlite(store) => store,
        }
    }

    /// As the code above sees it.
    #[must_use]
    pub fn shared(self) -> Arc<dyn Store> {
        match self {
            Self::Postgres(store) => Arc::new(store),
            Self::Sqlite(store) => Arc::new(store),
        }
    }
}

/// The cipher of `ENCRYPTION_KEYS`; without it, of the data folder, where standalone makes keys if there is nothing yet.
///
/// # Errors
/// When there are no keys, or they cannot be used.
pub fn cipher(settings: &Settings) -> anyhow::Result<Cipher> {
    let folder = DataDir::new(&settings.data_dir);
    let keys = match settings.service {
        _ if !settings.encryption.keys.is_empty() => settings.encryption.keys.clone(),
        Service::Standalone => folder.encryption_keys_or_new(&OsEntropy)?,
        Service::Command if settings.database.url.is_none() => folder.encryption_keys()?,
        _ => settings.encryption.required_keys()?.to_vec(),
    };
    cipher_of(&keys)
}

/// The cipher of these keys.
///
/// # Errors
/// When there is none, or two have one name.
pub fn cipher_of(keys: &[larkauth_config::EncryptionKey]) -> anyhow::Result<Cipher> {
    let keys =
        keys.iter().map(|key| EncryptionKey { id: key.id().to_owned(), key: Zeroizing::new(*key.bytes()) });
    Cipher::new(keys.collect(), Arc::new(OsEntropy)).context("ENCRYPTION_KEYS")
}

/// A cipher for work that leaves sealed values sealed, such as migrating.
///
/// # Errors
/// Never; passed on rather than hidden.
pub fn no_cipher() -> anyhow::Result<Cipher> {
    let mut key = Zeroizing::new([0; 32]);
    OsEntropy.fill(&mut *key);
    Ok(Cipher::new(vec![EncryptionKey { id: "none".to_owned(), key }], Arc::new(OsEntropy))?)
}
