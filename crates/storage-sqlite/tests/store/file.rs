//! The SQLite file: creation, migration, content, and faults.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use larkauth_models::{AppId, TokenKind};
use larkauth_storage::{
    Applications, Audit, AuditFilter, StorageError, Store, Tokens,
    testing::{NEEDLES, TestAuthorization, act, test_cipher},
};
use larkauth_storage_sqlite::{SqliteOptions, SqliteStore, testing::TestSqlite};
use sqlx::{Connection, SqliteConnection};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

const DEADLINE: Duration = Duration::from_millis(500);

async fn run(db: &mut SqliteConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(db).await.unwrap();
}

fn app() -> AppId {
    TestAuthorization::new(1).app_id
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Returns the bytes of the database and its log.
fn raw(database: &TestSqlite) -> Vec<u8> {
    let mut bytes = fs::read(database.path()).unwrap();
    bytes.extend(fs::read(database.path().with_extension("db-wal")).unwrap_or_default());
    bytes
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_concurrent_processes_applied_once() {
    let database = TestSqlite::create_empty();
    let mut migrations = JoinSet::new();
    for _ in 0..8 {
        let options = database.options();
        migrations.spawn(async move {
            let store = SqliteStore::open(&options, test_cipher()).await.unwrap();
            let report = store.migrate().await.unwrap();
            store.check_schema().await.unwrap();
            report
        });
    }
    let reports = migrations.join_all().await;
    assert_eq!(reports.iter().filter(|report| !report.applied.is_empty()).count(), 1, "{reports:?}");
    assert!(reports.iter().all(|report| report.version == reports[0].version));
    assert_eq!(database.store().await.migrate().await.unwrap().applied, [0; 0]);
}

#[tokio::test]
async fn check_schema_of_other_build_fails_with_remedy() {
    let database = TestSqlite::create_empty();
    let store = database.store().await;
    let error = store.check_schema().await.unwrap_err();
    assert!(matches!(error, StorageError::Schema(_)), "{error}");
    assert!(error.to_string().ends_with("have not been applied; run `larkauth migrate`"), "{error}");
    // Made anew, it would hide that data was lost.
    assert!(error.to_string().contains("if it held data, restore a backup"), "{error}");
    store.migrate().await.unwrap();

    let mut db = database.connection().await;
    run(&mut db, "update _sqlx_migrations set checksum = x'00' where version = 2").await;
    for error in [store.check_schema().await.unwrap_err(), store.migrate().await.unwrap_err()] {
        assert!(error.to_string().contains("migration 2 was applied in another wording"), "{error}");
    }
    run(&mut db, "delete from _sqlx_migrations where version = 2").await;
    run(
        &mut db,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (999, 'contract columns', true, x'00', 0)",
    )
    .await;
    for error in [store.check_schema().await.unwrap_err(), store.migrate().await.unwrap_err()] {
        assert!(error.to_string().contains("migration 999 of a newer release has removed"), "{error}");
    }
}

#[tokio::test]
async fn schema_that_newer_release_expanded_is_accepted() {
    let database = TestSqlite::create().await;
    let store = database.store().await;
    let mut db = database.connection().await;
    run(
        &mut db,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (999, 'later', true, x'00', 0)",
    )
    .await;
    assert_eq!(store.check_schema().await.unwrap(), [999]);
    let report = store.migrate().await.unwrap();
    assert!(report.applied.is_empty() && report.version == 999, "{report:?}");

    run(&mut db, "delete from _sqlx_migrations where version = 22").await;
    let error = store.check_schema().await.unwrap_err();
    assert!(error.to_string().contains("migrations [22] have not been applied"), "{error}");
}

#[tokio::test]
async fn open_readable_files_restricts_mode_to_owner() {
    let database = TestSqlite::create().await;
    let files = ["db", "db-wal", "db-shm"].map(|extension| database.path().with_extension(extension));
    let write = async || {
        let store = database.store().await;
        TestAuthorization::new(1).register(&store).await;
        store
    };
    let store = write().await;
    assert_eq!(files.each_ref().map(|file| mode(file)), [0o600; 3]);
    // Another program changes the mode while the files are in use.
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let second = write().await;
    assert_eq!(files.each_ref().map(|file| mode(file)), [0o600; 3]);
    store.close().await;
    second.close().await;
}

#[tokio::test]
async fn open_unusable_file_fails_with_remedy() {
    let database = TestSqlite::create_empty();
    let folder = database.path().parent().unwrap().to_owned();
    let at = |name: &str| folder.join(name);
    fs::write(at("text"), "SQLite is a fine library. ".repeat(100)).unwrap();
    fs::write(at("readonly"), "").unwrap();
    fs::set_permissions(at("readonly"), fs::Permissions::from_mode(0o400)).unwrap();
    for (path, create, expected) in [
        (at("missing"), false, "it does not exist; make it with `larkauth migrate`, or correct DATABASE_URL"),
        (at("no/such"), true, "its folder does not exist; make it, or correct DATABASE_URL"),
        (folder.clone(), true, "it is not a file; correct DATABASE_URL"),
        (at("readonly"), true, "it is read-only; make it writable (chmod 600)"),
        (
            at("text"),
            true,
            "it is no SQLite database, or a damaged one; restore it from a backup, or correct DATABASE_URL",
        ),
    ] {
        let options = SqliteOptions { path: path.clone(), create, ..database.options() };
        let error = SqliteStore::open(&options, test_cipher()).await.unwrap_err();
        let line = format!("the database file {} cannot be used: {expected}", path.display());
        assert_eq!(error.to_string(), line);
        assert!(!error.is_transient());
    }
    assert!(!at("missing").exists(), "a missing file is not created");
}

#[tokio::test]
async fn application_in_damaged_page_refused() {
    let database = TestSqlite::create().await;
    let store = database.store().await;
    TestAuthorization::new(1).register(&store).await;
    store.close().await;
    let mut db = database.connection().await;
    let root = "select rootpage from sqlite_schema where name = 'applications'";
    let page: i64 = sqlx::query_scalar(root).fetch_one(&mut db).await.unwrap();
    db.close().await.unwrap();
    let page = usize::try_from(page).unwrap() - 1;
    let mut bytes = fs::read(database.path()).unwrap();
    bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
    fs::write(database.path(), bytes).unwrap();

    let error = database.store().await.application(&app()).await.unwrap_err();
    assert!(matches!(error, StorageError::Refused { .. }), "{error}");
    assert!(error.to_string().ends_with("the file is damaged, restore it from a backup"), "{error}");
}

#[tokio::test]
async fn file_after_completion_holds_no_plaintext_secret() {
    let database = TestSqlite::create().await;
    let store = database.store().await;
    let authorization = TestAuthorization::new(1);
    authorization.register(&store).await;
    authorization.invite(&store).await;
    store.close().await;
    let pending = raw(&database);
    assert!(contains(&pending, "ou_1") && contains(&pending, "pending"), "the bytes contain the rows");
    let store = database.store().await;
    authorization.complete(&store).await;
    store.close().await;
    let completed = raw(&database);
    assert!(contains(&completed, "Ming"));
    for needle in NEEDLES {
        assert!(!contains(&pending, needle) && !contains(&completed, needle), "{needle} is in the file");
    }
}

#[tokio::test]
async fn revoke_token_after_completion_leaves_no_secret() {
    let database = TestSqlite::create().await;
    let store = database.store().await;
    let authorization = TestAuthorization::new(1);
    authorization.run(&store).await;
    let TestAuthorization { app_id, open_id, .. } = &authorization;
    assert!(
        store.revoke_token(app_id, open_id, TokenKind::User, &act(authorization.started_at())).await.unwrap()
    );
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from user_auth_sessions
                 where coalesce(oauth_state_sealed, pkce_verifier_sealed, exchange_claim) is not null)
              + (select count(*) from access_tokens
                 where coalesce(access_token_sealed, refresh_token_sealed) is not null)",
    )
    .fetch_one(&mut database.connection().await)
    .await
    .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn constraints_impossible_row_refused() {
    let database = TestSqlite::create().await;
    let store = database.store().await;
    let authorization = TestAuthorization::new(1);
    authorization.run(&store).await;
    let mut db = database.connection().await;
    for (statement, refusal) in [
        (
            "update user_auth_sessions set state = 'done', completed_at = null, token_id = null",
            "CHECK constraint failed: user_auth_sessions_state",
        ),
        ("update user_auth_sessions set auth_method = 'sms'", "user_auth_sessions_method"),
        (
            "update user_auth_sessions set state = 'rejected', completed_at = null, token_id = null, open_id = null",
            "user_auth_sessions_person",
        ),
        (
            "update user_auth_sessions set open_id = null, user_id = 'u'",
            "user_auth_sessions_completed_has_open_id",
        ),
        ("update user_auth_sessions set completed_at = null", "user_auth_sessions_completed_has_time"),
        ("update user_auth_sessions set token_id = null", "user_auth_sessions_completed_has_token"),
        ("update user_auth_sessions set token_id = 999999", "FOREIGN KEY constraint failed"),
        (
            "update user_auth_sessions set oauth_state_sealed = x'00'",
            "user_auth_sessions_secrets_while_pending",
        ),
        ("update user_auth_sessions set oauth_state_sha256 = x'00'", "user_auth_sessions_hashes"),
        ("update user_auth_sessions set scopes = '{}'", "user_auth_sessions_scopes"),
        ("update user_auth_sessions set created_at = 'now'", "cannot store TEXT value in INTEGER column"),
        (
            "update access_tokens set status = 'revoked', revoked_at = 1, refresh_token_sealed = null",
            "access_tokens_secret_unless_revoked",
        ),
        ("update access_tokens set kind = 'admin'", "access_tokens_kind"),
        ("update applications set enabled = 2", "applications_enabled"),
        ("delete from access_tokens", "FOREIGN KEY constraint failed"),
        ("delete from applications", "FOREIGN KEY constraint failed"),
    ] {
        let error = sqlx::raw_sql(statement).execute(&mut db).await.unwrap_err();
        assert!(error.to_string().contains(refusal), "{statement}: {error}");
    }
}

#[tokio::test]
async fn write_to_locked_file_fails_at_deadline_reads_continue() {
    let database = TestSqlite::create().await;
    let options = SqliteOptions { max_readers: 1, statement_deadline: DEADLINE, ..database.options() };
    let store = SqliteStore::open(&options, test_cipher()).await.unwrap();
    let authorization = TestAuthorization::new(1);
    authorization.register(&store).await;

    let mut other = database.connection().await;
    let lock = other.begin_with("begin immediate").await.unwrap();
    let started = Instant::now();
    let freeze = async || store.set_application_frozen(&app(), Some("x"), authorization.started_at()).await;
    let error = freeze().await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }) && error.is_transient(), "{error}");
    assert!(started.elapsed() < DEADLINE + Duration::from_secs(3), "{:?}", started.elapsed());
    // The caller drops the call before the deadline.
    timeout(DEADLINE / 4, freeze()).await.unwrap_err();
    assert!(store.application(&app()).await.unwrap().unwrap().frozen_since.is_none());
    store.ping().await.unwrap();

    lock.rollback().await.unwrap();
    let works = async { while freeze().await.is_err() {} };
    timeout(Duration::from_secs(20), works).await.unwrap();
    assert!(store.application(&app()).await.unwrap().unwrap().frozen_since.is_some());
}

#[tokio::test]
async fn close_then_call_returns_unavailable() {
    let database = TestSqlite::create().await;
    let store = database.store().await;
    TestAuthorization::new(1).register(&store).await;
    store.close().await;
    assert!(matches!(store.ping().await, Err(StorageError::Unavailable { .. })));
    assert!(!database.path().with_extension("db-wal").exists(), "the log is written back and removed");
}

#[tokio::test]
async fn audit_log_statement_that_changes_records_refused() {
    let database = TestSqlite::create().await;
    let (store, authorization) = (database.store().await, TestAuthorization::new(1));
    authorization.run(&store).await;
    let mut db = database.connection().await;
    let filter = AuditFilter::default();
    let before = store.list_audit(&filter, None, 100).await.unwrap();
    assert_eq!(before.len(), 3);
    for statement in [
        "update audit_log set outcome = 'failed', reason = 'x'",
        "update audit_log set at = 1 where action = 'app.register'",
        "update audit_log set person = 'ou_2'",
        "update audit_log set reason = 'x', outcome = 'failed', person = 'erased:x'",
        "update audit_log set actor_id = 'erased:x' where actor_kind = 'service'",
        "delete from audit_log",
        "insert or replace into audit_log select * from audit_log",
    ] {
        let error = sqlx::raw_sql(statement).execute(&mut db).await.unwrap_err();
        assert!(error.to_string().contains("audit_log is append-only"), "{statement}: {error}");
        assert_eq!(store.list_audit(&filter, None, 100).await.unwrap(), before, "{statement}");
    }
    // The purge permits the deletion of what is older, and of nothing else.
    let at = authorization.started_at();
    assert_eq!(store.purge_audit(at, 1).await.unwrap(), 0);
    let error = sqlx::raw_sql("delete from audit_log").execute(&mut db).await.unwrap_err();
    assert!(error.to_string().contains("append-only"), "{error}");
    let later = act(at + Duration::from_secs(60));
    store.append_audit(std::slice::from_ref(&later)).await.unwrap();
    assert_eq!(store.purge_audit(later.at, 100).await.unwrap(), 3);
    assert_eq!(store.list_audit(&filter, None, 9).await.unwrap(), [later]);
    sqlx::raw_sql("delete from audit_retention").execute(&mut db).await.unwrap();
    let error = sqlx::raw_sql("delete from audit_log").execute(&mut db).await.unwrap_err();
    assert!(error.to_string().contains("append-only"), "{error}");
}
