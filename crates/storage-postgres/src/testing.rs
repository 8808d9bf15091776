//! PostgreSQL databases that a test creates and drops.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use larkauth_models::{Clock, ExposeSecret, SecretString, SystemClock};
use larkauth_net::Trust;
use larkauth_storage::{Cipher, Store, conformance::Backend, testing::test_cipher};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::{
    migrations::MIGRATIONS,
    store::{PgOptions, PgStore},
};

/// Without TLS: in a debug build the handshake takes longer than most tests.
const DEFAULT_SERVER: &str = "postgres://root@127.0.0.1:5432/postgres?sslmode=disable";
const PREFIX: &str = "larkauth_test_";
/// Prefix of the migrated templates; the rest is the checksum of the migrations.
const TEMPLATE_PREFIX: &str = "larkauth_template_";
const LEFTOVER_AFTER_SECONDS: i64 = 3600;

/// A migrated PostgreSQL database for one test, dropped with this value. Tests can create any number concurrently: each
/// database is a copy of a template, which is migrated once for each version of the migrations.
///
/// The server is named by `LARKAUTH_TEST_DATABASE_URL` (default
/// `postgres://root@127.0.0.1:5432/postgres?sslmode=disable`), whose user must be allowed to create databases.
/// Databases of killed test runs are dropped after an hour.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: String,
    url: SecretString,
}

impl TestDatabase {
    /// Creates a database with the current schema.
    ///
    /// # Panics
    /// When the server cannot be reached or used.
    pub async fn create() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(prepare_template).await;
        Self::copy_of(template).await
    }

    /// Creates an empty database.
    ///
    /// # Panics
    /// When the server cannot be reached or used.
    pub async fn create_empty() -> Self {
        Self::copy_of("template0").await
    }

    async fn copy_of(template: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let mut connection = connect(&server).await;
        let now = SystemClock.now().timestamp();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            drop_leftovers(&mut connection, now).await;
        }
        let name = format!("{PREFIX}{now}_{}_{number}", std::process::id());
        run(&mut connection, format!("create database {name} template {template}")).await;
        connection.close().await.unwrap();
        let url = url_of(&server, &name);
        Self { name, server, url }
    }

    /// Returns the connection string, for processes under test.
    #[must_use]
    pub fn url(&self) -> SecretString {
        self.url.clone()
    }

    /// Returns the options of a store on this database: 8 connections, deadlines of 10 s.
    #[must_use]
    pub fn options(&self) -> PgOptions {
        PgOptions {
            trust: Trust::default(),
            url: self.url(),
            max_connections: 8,
            connect_deadline: Duration::from_secs(10),
            statement_deadline: Duration::from_secs(10),
            application_name: "larkauth test".to_owned(),
        }
    }

    /// Connects a store with [`test_cipher`]. Each store has its own pool, as in another process.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub async fn store(&self) -> PgStore {
        PgStore::connect(&self.options(), test_cipher()).await.unwrap()
    }

    /// Opens a connection without a store, to inspect or change rows directly.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(self.url.expose_secret()).await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread with its own runtime: the test's runtime may be shutting down, and the drop has to be awaited.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await.unwrap();
                run(&mut connection, format!("drop database {name} with (force)")).await;
                connection.close().await.unwrap();
            });
        });
        if dropping.join().is_err() {
            tracing::warn!(name = self.name, "a test database could not be dropped");
        }
    }
}

#[async_trait]
impl Backend for TestDatabase {
    async fn open(&self, cipher: Cipher) -> std::sync::Arc<dyn Store> {
        std::sync::Arc::new(PgStore::connect(&self.options(), cipher).await.unwrap())
    }
}

fn server() -> String {
    std::env::var("LARKAUTH_TEST_DATABASE_URL").unwrap_or_else(|_| DEFAULT_SERVER.to_owned())
}

/// Returns the URL of another database of the same server.
fn url_of(server: &str, name: &str) -> SecretString {
    let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (address, _) = address.rsplit_once('/').unwrap();
    SecretString::from(format!("{address}/{name}?{parameters}"))
}

async fn connect(server: &str) -> PgConnection {
    match PgConnection::connect(server).await {
        Ok(connection) => connection,
        Err(error) => panic!("tests need PostgreSQL at LARKAUTH_TEST_DATABASE_URL: {error}"),
    }
}

/// Returns the name of the migrated template, after creating it if this server does not have it. Of several processes
/// one creates it and the others wait.
async fn prepare_template() -> String {
    /// Key of the advisory lock; any number that no other program uses on this server.
    const LOCK: i64 = 0x6c61_726b_6175_7468;
    let server = server();
    let mut connection = connect(&server).await;
    sqlx::query("select pg_advisory_lock($1)").bind(LOCK).execute(&mut connection).await.unwrap();
    let template = template_name();
    let known: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where starts_with(datname, $1)")
            .bind(TEMPLATE_PREFIX)
            .fetch_all(&mut connection)
            .await
            .unwrap();
    if !known.contains(&template) {
        // The template has another name until it is complete, so that a killed process leaves no half-migrated
        // template.
        let unfinished = format!("{template}_unfinished");
        run(&mut connection, format!("drop database if exists {unfinished} with (force)")).await;
        run(&mut connection, format!("create database {unfinished} template template0")).await;
        let mut target = connect(url_of(&server, &unfinished).expose_secret()).await;
        MIGRATIONS.run_direct(None, &mut target, false).await.unwrap();
        target.close().await.unwrap();
        run(&mut connection, format!("alter database {unfinished} rename to {template}")).await;
    }
    sqlx::query("select pg_advisory_unlock($1)").bind(LOCK).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    template
}

/// Returns the template's name: the prefix and a digest of the numbers and checksums of all migrations.
fn template_name() -> String {
    let mut checksum = [0_u8; 8];
    for migration in MIGRATIONS.iter() {
        // A migration that gets another number keeps its checksum.
        let bytes = migration.version.to_le_bytes().into_iter().zip(migration.checksum.iter());
        for (sum, (version, byte)) in checksum.iter_mut().zip(bytes) {
            *sum = sum.rotate_left(1) ^ byte ^ version;
        }
    }
    checksum.iter().fold(TEMPLATE_PREFIX.to_owned(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

async fn drop_leftovers(connection: &mut PgConnection, now: i64) {
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where starts_with(datname, $1)")
            .bind(PREFIX)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
    for name in names {
        let created_at =
            name[PREFIX.len()..].split('_').next().and_then(|seconds| seconds.parse::<i64>().ok());
        if created_at.is_some_and(|created_at| now - created_at > LEFTOVER_AFTER_SECONDS) {
            // Another process may drop it at the same time.
            run(connection, format!("drop database if exists {name} with (force)")).await;
        }
    }
}

async fn run(connection: &mut PgConnection, statement: String) {
    // The names consist of letters, digits and underscores.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.unwrap();
}
