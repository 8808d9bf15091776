//! Faults of the server and the network.

use std::time::Duration;

use larkauth_models::{AppId, ExposeSecret, SecretString};
use larkauth_net::Trust;
use larkauth_storage::{Applications, StorageError, Store, testing::test_cipher};
use larkauth_storage_postgres::{PgOptions, PgStore, testing::TestDatabase};
use sqlx::{Connection, PgConnection};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

const DEADLINE: Duration = Duration::from_millis(800);

/// Options with one connection, so that a connection left unusable makes the next call fail.
fn impatient(database: &TestDatabase) -> PgOptions {
    PgOptions { max_connections: 1, statement_deadline: DEADLINE, ..database.options() }
}

fn app() -> AppId {
    AppId::new("cli_00000000000000a1").unwrap()
}

/// Checks that the call fails as unavailable soon after the deadline, and that the message hides the password.
async fn assert_unavailable<T: std::fmt::Debug>(call: impl Future<Output = larkauth_storage::Result<T>>) {
    let started = Instant::now();
    let error = call.await.unwrap_err();
    assert!(started.elapsed() < DEADLINE + Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(matches!(error, StorageError::Unavailable { .. }) && error.is_transient(), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
}

/// Waits until `calls` calls wait for a lock. (`pg_stat_activity` does not change within a transaction.)
async fn until_waiting(db: &mut PgConnection, calls: i64) {
    let waiting = "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database
                   where not granted and datname = current_database()";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *db).await.unwrap() < calls {}
}

async fn works_again(store: &PgStore) {
    let works = async {
        while store.application(&app()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), works).await.unwrap();
}

#[tokio::test]
async fn connect_unreachable_server_fails_within_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = [silent.local_addr().unwrap().port(), closed.local_addr().unwrap().port()];
    drop(closed);
    for port in ports {
        let options = PgOptions {
            url: SecretString::from(format!("postgres://me:s3cret@127.0.0.1:{port}/x")),
            trust: Trust::default(),
            max_connections: 1,
            connect_deadline: DEADLINE,
            statement_deadline: DEADLINE,
            application_name: "test".to_owned(),
        };
        assert!(!format!("{options:?}").contains("s3cret"));
        assert_unavailable(PgStore::connect(&options, test_cipher())).await;
    }
}

#[tokio::test]
async fn call_on_killed_connection_fails_once() {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&impatient(&database), test_cipher()).await.unwrap();
    let mut admin = database.connection().await;
    let kill = "select pg_terminate_backend(pid, 5000) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid()";

    // The connection is idle in the pool.
    store.ping().await.unwrap();
    sqlx::raw_sql(kill).execute(&mut admin).await.unwrap();
    store.ping().await.unwrap();

    // The connection is in use: its statement waits for this lock.
    let mut lock = admin.begin().await.unwrap();
    sqlx::raw_sql("lock table applications").execute(&mut *lock).await.unwrap();
    let app = app();
    let kill_when_waiting = async {
        until_waiting(&mut lock, 1).await;
        sqlx::raw_sql(kill).execute(&mut *lock).await.unwrap();
        lock.rollback().await.unwrap();
    };
    let (call, killed) =
        tokio::join!(store.application(&app), timeout(Duration::from_secs(20), kill_when_waiting));
    killed.unwrap();
    assert!(matches!(call, Err(StorageError::Unavailable { .. })), "{call:?}");
    assert!(store.application(&app).await.unwrap().is_none());
}

/// The server refuses the connection with a code that means a defect of the statement elsewhere.
#[tokio::test]
async fn call_while_database_takes_no_connections_is_unavailable() {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&impatient(&database), test_cipher()).await.unwrap();
    let mut connection = database.connection().await;
    let name: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut connection).await.unwrap();
    let witness = TestDatabase::create_empty().await;
    let mut admin = witness.connection().await;
    let mut allow = async |allowed: bool| {
        let statement = format!(
            "alter database {name} allow_connections {allowed};
             select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}'"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    };
    allow(false).await;
    assert_unavailable(store.application(&app())).await;
    allow(true).await;
    works_again(&store).await;
}

#[tokio::test]
async fn call_late_or_dropped_leaves_pool_usable() {
    let database = TestDatabase::create().await;
    let store = PgStore::connect(&impatient(&database), test_cipher()).await.unwrap();
    let mut admin = database.connection().await;
    let mut lock = admin.begin().await.unwrap();
    sqlx::raw_sql("lock table applications").execute(&mut *lock).await.unwrap();

    assert_unavailable(store.application(&app())).await;
    // The caller drops the call before the deadline.
    timeout(DEADLINE / 4, store.application(&app())).await.unwrap_err();
    // The only place in the pool is free again for calls that do not need the lock.
    timeout(Duration::from_secs(20), async { while store.ping().await.is_err() {} }).await.unwrap();
    lock.rollback().await.unwrap();
    works_again(&store).await;
}

/// Forwards bytes to the server. A connection that is open while `frozen` is true stops for ever, without being closed;
/// connections accepted after that are forwarded again.
async fn proxy(target: String, frozen: watch::Receiver<bool>) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (target, mut frozen) = (target.clone(), frozen.clone());
            connections.spawn(async move {
                let mut server = TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    biased;
                    _ = frozen.wait_for(|frozen| *frozen) => {}
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                }
                std::future::pending::<()>().await;
            });
        }
    });
    (port, tasks)
}

#[tokio::test]
async fn call_over_silent_network_leaves_pool_usable() {
    let database = TestDatabase::create().await;
    let mut admin = database.connection().await;
    let url = database.url();
    let server = url.expose_secret().split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let (freeze, frozen) = watch::channel(false);
    let (port, _proxy) = proxy(server.clone(), frozen).await;
    let url = SecretString::from(url.expose_secret().replace(&server, &format!("127.0.0.1:{port}")));
    let options = PgOptions { url, max_connections: 4, ..impatient(&database) };
    let store = PgStore::connect(&options, test_cipher()).await.unwrap();

    // The network stops while every connection executes a call.
    let mut lock = admin.begin().await.unwrap();
    sqlx::raw_sql("lock table applications").execute(&mut *lock).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        calls.spawn(async move { assert_unavailable(store.application(&app())).await });
    }
    timeout(Duration::from_secs(20), until_waiting(&mut lock, 4)).await.unwrap();
    freeze.send_replace(true);
    calls.join_all().await;
    freeze.send_replace(false);
    lock.rollback().await.unwrap();
    works_again(&store).await;

    // The network stops while a connection is idle in the pool.
    freeze.send_replace(true);
    assert_unavailable(store.application(&app())).await;
    freeze.send_replace(false);
    works_again(&store).await;
}

#[tokio::test]
async fn close_then_call_returns_unavailable() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    store.ping().await.unwrap();
    store.close().await;
    assert!(matches!(store.ping().await, Err(StorageError::Unavailable { .. })));
}
