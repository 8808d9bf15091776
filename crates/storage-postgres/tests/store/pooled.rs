//! The store behind PgBouncer in transaction mode, with fewer server connections than callers.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use larkauth_models::{AppId, ExposeSecret, SecretString};
use larkauth_storage::{Applications, Cipher, Store, conformance::Backend, testing::test_cipher};
use larkauth_storage_postgres::{PgOptions, PgStore, testing::TestDatabase};
use sqlx::{Connection, Row};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use url::Url;

const PATIENCE: Duration = Duration::from_secs(20);

/// A PgBouncer of one test. Dropping it stops it.
struct PgBouncer {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Starts one in front of the server of a database.
    async fn start(server: &Url, pool_size: u32, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Another process may take the port in between; then this one ends and another port is tried.
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let mut process = run(folder.path(), &configuration(server, port, pool_size, more));
            while process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Self { process, port, _folder: folder };
                }
                assert!(Instant::now() < deadline, "PgBouncer does not listen");
                sleep(Duration::from_millis(10)).await;
            }
            assert!(Instant::now() < deadline, "PgBouncer does not start");
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(server: &Url, port: u16, pool_size: u32, more: &str) -> String {
    let decoded = |text: &str| percent_decoded(text);
    let password =
        server.password().map(|password| format!(" password='{}'", decoded(password))).unwrap_or_default();
    format!(
        "[databases]\n* = host={} port={} user={}{password}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = transaction\ndefault_pool_size = {pool_size}\nmax_client_conn = 200\n{more}\n",
        server.host_str().unwrap(),
        server.port().unwrap_or(5432),
        decoded(server.username()),
    )
}

fn percent_decoded(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes()).next().unwrap().1.into_owned()
}

fn run(folder: &Path, configuration: &str) -> Child {
    let file = folder.join("pgbouncer.ini");
    std::fs::write(&file, configuration).unwrap();
    // Debian keeps it off the PATH of ordinary users.
    let program =
        ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|program| Path::new(program).exists());
    let mut command = Command::new(program.unwrap_or("pgbouncer"));
    // It refuses to run as root.
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.args(["-u", "daemon"]);
    }
    let started = command
        .arg("--quiet")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    assert!(started.is_ok(), "tests of poolers need pgbouncer; scripts/test installs it");
    started.unwrap()
}

/// A database behind a PgBouncer.
struct Pooled {
    database: TestDatabase,
    bouncer: PgBouncer,
}

impl Pooled {
    async fn on(database: TestDatabase, pool_size: u32, more: &str) -> Self {
        let server = Url::parse(database.url().expose_secret()).unwrap();
        let bouncer = PgBouncer::start(&server, pool_size, more).await;
        Self { database, bouncer }
    }

    async fn create() -> Self {
        Self::on(TestDatabase::create().await, 3, "").await
    }

    fn options(&self) -> PgOptions {
        let server = Url::parse(self.database.url().expose_secret()).unwrap();
        let url = format!("postgres://anyone@127.0.0.1:{}{}", self.bouncer.port, server.path());
        PgOptions { url: SecretString::from(url), ..self.database.options() }
    }

    async fn store(&self) -> PgStore {
        PgStore::connect(&self.options(), test_cipher()).await.unwrap()
    }
}

#[async_trait]
impl Backend for Pooled {
    async fn open(&self, cipher: Cipher) -> Arc<dyn Store> {
        Arc::new(PgStore::connect(&self.options(), cipher).await.unwrap())
    }
}

larkauth_storage::conformance_suite!(Pooled::create().await);

#[tokio::test]
async fn migrate_concurrent_processes_through_pooler_applied_once() {
    let pooled = Pooled::on(TestDatabase::create_empty().await, 3, "").await;
    let mut migrations = JoinSet::new();
    for _ in 0..3 {
        let store = pooled.store().await;
        migrations.spawn(async move { store.migrate().await.unwrap() });
    }
    let reports = timeout(PATIENCE, migrations.join_all()).await.unwrap();
    let applied: Vec<_> = reports.iter().flat_map(|report| &report.applied).collect();
    assert!(!applied.is_empty() && applied.windows(2).all(|pair| pair[0] < pair[1]), "{applied:?}");
    let store = pooled.store().await;
    store.check_schema().await.unwrap();
    assert_eq!(store.migrate().await.unwrap().applied, [0; 0]);
    // A process without the pooler agrees.
    pooled.database.store().await.check_schema().await.unwrap();
}

#[tokio::test]
async fn call_through_pooler_leaves_nothing_in_the_session_of_the_server() {
    // One server connection, which every caller gets.
    let pooled = Pooled::on(TestDatabase::create().await, 1, "").await;
    let (one, two) = (pooled.store().await, pooled.store().await);
    for store in [&one, &two, &one] {
        assert!(store.applications().await.unwrap().is_empty());
        assert!(store.application(&AppId::new("cli_0123456789abcdef").unwrap()).await.unwrap().is_none());
    }
    let url = format!("{}?sslmode=disable", pooled.options().url.expose_secret());
    let mut direct = sqlx::postgres::PgConnectOptions::clone(&url.parse().unwrap()).extra_float_digits(None);
    direct = direct.statement_cache_capacity(0);
    let mut session = sqlx::PgConnection::connect_with(&direct).await.unwrap();
    let query = "select (select count(*) from pg_prepared_statements)::text || ' ' || current_setting('statement_timeout')";
    let row = sqlx::raw_sql(query).fetch_one(&mut session).await.unwrap();
    assert_eq!(row.get::<String, _>(0), "0 0");
}

#[tokio::test]
async fn call_through_pooler_that_ignores_parameters_has_a_deadline_in_the_server() {
    for more in ["", "ignore_startup_parameters = extra_float_digits, options"] {
        let pooled = Pooled::on(TestDatabase::create().await, 3, more).await;
        let deadline = Duration::from_secs(2);
        let options = PgOptions { statement_deadline: deadline, ..pooled.options() };
        let store = PgStore::connect(&options, test_cipher()).await.unwrap();
        let mut admin = pooled.database.connection().await;
        let mut lock = admin.begin().await.unwrap();
        sqlx::raw_sql("lock table applications").execute(&mut *lock).await.unwrap();
        let error = store.applications().await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        // The server gives the statement up by itself, while the lock is still held.
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        let gone = async {
            while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *lock).await.unwrap() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
        lock.rollback().await.unwrap();
        assert!(store.applications().await.unwrap().is_empty());
    }
}
