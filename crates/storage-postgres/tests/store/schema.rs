//! Migrations, constraints, and the content of the tables.

use larkauth_models::{ExposeSecret, StoredToken, TokenKind};
use larkauth_storage::{
    Audit, AuditEntry, AuditFilter, Sessions, StorageError, Tokens,
    testing::{NEEDLES, TestAuthorization, act},
};
use larkauth_storage_postgres::{PgStore, testing::TestDatabase};
use sqlx::PgConnection;
use tokio::task::JoinSet;

async fn run(db: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(db).await.unwrap();
}

#[tokio::test]
async fn migrate_concurrent_processes_applied_once() {
    let database = TestDatabase::create_empty().await;
    let store = database.store().await;
    let error = store.check_schema().await.unwrap_err();
    assert!(matches!(error, StorageError::Schema(_)), "{error}");
    assert!(error.to_string().ends_with("have not been applied; run `larkauth migrate`"), "{error}");

    let mut migrations = JoinSet::new();
    for _ in 0..5 {
        let store = database.store().await;
        migrations.spawn(async move { store.migrate().await.unwrap() });
    }
    let reports = migrations.join_all().await;
    // A process that waited may report all migrations or none, but the schema is complete for each process.
    let is_whole =
        |applied: &[i64]| applied.first() == Some(&1) && applied.last() == Some(&reports[0].version);
    assert!(reports.iter().any(|report| is_whole(&report.applied)), "{reports:?}");
    assert!(reports.iter().all(|report| report.version == reports[0].version));
    store.check_schema().await.unwrap();
    assert_eq!(store.migrate().await.unwrap().applied, [0; 0]);
}

#[tokio::test]
async fn check_schema_of_other_build_fails_with_remedy() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let mut db = database.connection().await;

    run(&mut db, "update _sqlx_migrations set checksum = 'x' where version = 2").await;
    for error in [store.check_schema().await.unwrap_err(), store.migrate().await.unwrap_err()] {
        assert!(error.to_string().contains("migration 2 was applied in another wording"), "{error}");
    }
    run(&mut db, "delete from _sqlx_migrations where version = 2").await;
    let error = store.check_schema().await.unwrap_err();
    assert!(error.to_string().contains("migrations [2] have not been applied"), "{error}");
    run(
        &mut db,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (999, 'contract columns', true, 'x', 0)",
    )
    .await;
    for error in [store.check_schema().await.unwrap_err(), store.migrate().await.unwrap_err()] {
        assert!(error.to_string().contains("migration 999 of a newer release has removed"), "{error}");
    }
}

#[tokio::test]
async fn schema_that_newer_release_expanded_is_accepted() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let mut db = database.connection().await;
    run(
        &mut db,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (999, 'later', true, 'x', 0)",
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
async fn test_database_dropped_value_removes_database() {
    let witness = TestDatabase::create_empty().await;
    let database = TestDatabase::create_empty().await;
    let url = database.url();
    let name = url.expose_secret().rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let mut db = witness.connection().await;
    let mut count = async || {
        let query = sqlx::query_scalar::<_, i64>("select count(*) from pg_database where datname = $1");
        query.bind(&name).fetch_one(&mut db).await.unwrap()
    };
    assert_eq!(count().await, 1);
    drop(database);
    assert_eq!(count().await, 0);
}

/// One authorization in a database that the test can also read directly.
struct Fixture {
    database: TestDatabase,
    authorization: TestAuthorization,
    store: PgStore,
}

impl Fixture {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let store = database.store().await;
        let authorization = TestAuthorization::new(1);
        authorization.register(&store).await;
        authorization.invite(&store).await;
        Self { database, authorization, store }
    }

    async fn complete(&self) {
        self.authorization.complete(&self.store).await;
    }

    async fn token(&self) -> larkauth_storage::Result<Option<StoredToken>> {
        let TestAuthorization { app_id, open_id, .. } = &self.authorization;
        self.store.token(app_id, open_id, TokenKind::User).await
    }

    /// Returns all rows of all tables as text.
    async fn dump(&self) -> String {
        let mut db = self.database.connection().await;
        let dump = "select string_agg(query_to_xml(format('select t::text from %I t', tablename), true, false, '')::text, '')
                    from pg_tables where schemaname = 'public'";
        sqlx::query_scalar(dump).fetch_one(&mut db).await.unwrap()
    }
}

fn assert_no_secrets(dump: &str) {
    for secret in NEEDLES {
        // The dump contains bytes in hexadecimal.
        for form in [secret.to_owned(), hex::encode(secret)] {
            assert!(!dump.contains(&form), "{secret} is in the database");
        }
    }
}

#[tokio::test]
async fn tables_after_completion_hold_no_plaintext_secret() {
    let auth = Fixture::new().await;
    let pending = auth.dump().await;
    assert!(pending.contains("ou_1") && pending.contains("pending"), "the dump is not empty");
    assert_no_secrets(&pending);
    auth.complete().await;
    let completed = auth.dump().await;
    assert!(completed.contains("Ming"));
    assert_no_secrets(&completed);

    // The check fails when one secret is stored as plaintext.
    let mut db = auth.database.connection().await;
    run(&mut db, "update access_tokens set access_token_sealed = 'xneedle-access'").await;
    let changed = auth.dump().await;
    assert!(std::panic::catch_unwind(|| assert_no_secrets(&changed)).is_err());
}

#[tokio::test]
async fn revoke_token_after_completion_leaves_no_secret() {
    let auth = Fixture::new().await;
    auth.complete().await;
    let TestAuthorization { app_id, open_id, .. } = &auth.authorization;
    let now = auth.authorization.started_at();
    assert!(auth.store.revoke_token(app_id, open_id, TokenKind::User, &act(now)).await.unwrap());
    let mut db = auth.database.connection().await;
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from user_auth_sessions
                 where num_nonnulls(oauth_state_sealed, pkce_verifier_sealed, exchange_claim) > 0)
              + (select count(*) from access_tokens where num_nonnulls(access_token_sealed, refresh_token_sealed) > 0)",
    )
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn token_with_moved_value_cannot_be_decrypted() {
    let auth = Fixture::new().await;
    auth.complete().await;
    let mut db = auth.database.connection().await;
    run(&mut db, "update access_tokens set access_token_sealed = refresh_token_sealed").await;
    let token = auth.token().await.unwrap().unwrap();
    let unreadable = token.pair.access_token.unreadable().unwrap();
    assert_eq!(
        (unreadable.column, unreadable.reason.as_str()),
        (
            "access_token_sealed",
            "the value does not open with key `test`: the key's bytes differ, or the value was changed or moved"
        )
    );
    assert!(token.pair.refresh_token.unwrap().unreadable().is_none(), "the other one opens");
}

#[tokio::test]
async fn session_with_broken_row_names_table_and_key() {
    let auth = Fixture::new().await;
    let mut db = auth.database.connection().await;
    run(&mut db, "update user_auth_sessions set card = '{\"include_description\": 1}'").await;
    let error = auth.store.session(auth.authorization.session_id).await.unwrap_err();
    let StorageError::Corrupt { table, row, .. } = error else { unreachable!("{error}") };
    assert_eq!((table, row), ("user_auth_sessions", auth.authorization.session_id.to_string()));
}

#[tokio::test]
async fn audit_log_statement_that_changes_records_refused() {
    let auth = Fixture::new().await;
    auth.complete().await;
    let about = AuditEntry { person: Some("ou_1".to_owned()), ..act(auth.authorization.started_at()) };
    auth.store.append_audit(&[about]).await.unwrap();
    let mut db = auth.database.connection().await;
    let before = auth.dump().await;
    for statement in [
        "update audit_log set outcome = 'failed', reason = 'x'",
        "update audit_log set at = now() where action = 'app.register'",
        "update audit_log set person = 'ou_2'",
        "update audit_log set person = null",
        "update audit_log set person = 'erased:x', reason = 'x', outcome = 'failed'",
        "update audit_log set actor_id = 'erased:x' where actor_kind = 'service'",
        "delete from audit_log",
        "truncate audit_log",
        "delete from audit_retention; delete from audit_log",
    ] {
        let error = sqlx::raw_sql(statement).execute(&mut db).await.unwrap_err();
        assert!(error.to_string().contains("audit_log is append-only"), "{statement}: {error}");
        assert_eq!(auth.dump().await, before, "{statement}");
    }
    // The purge permits the deletion of what is older, and of nothing else.
    let at = auth.authorization.started_at();
    assert_eq!(auth.store.purge_audit(at, 1).await.unwrap(), 0);
    let error = sqlx::raw_sql("delete from audit_log").execute(&mut db).await.unwrap_err();
    assert!(error.to_string().contains("append-only"), "{error}");
    let later = act(at + std::time::Duration::from_secs(60));
    auth.store.append_audit(std::slice::from_ref(&later)).await.unwrap();
    assert_eq!(auth.store.purge_audit(later.at, 100).await.unwrap(), 4);
    assert_eq!(auth.store.list_audit(&AuditFilter::default(), None, 9).await.unwrap(), [later]);
}

#[tokio::test]
async fn constraints_impossible_row_refused() {
    let auth = Fixture::new().await;
    auth.complete().await;
    let mut db = auth.database.connection().await;
    for (statement, constraint) in [
        (
            "update user_auth_sessions set state = 'done', completed_at = null, token_id = null",
            "user_auth_sessions_state",
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
        ("update user_auth_sessions set token_id = 999999", "user_auth_sessions_token_id_fkey"),
        (
            "update user_auth_sessions set oauth_state_sealed = 'x'",
            "user_auth_sessions_secrets_while_pending",
        ),
        (
            "update access_tokens set status = 'revoked', revoked_at = now(), refresh_token_sealed = null",
            "access_tokens_secret_unless_revoked",
        ),
        ("update access_tokens set kind = 'admin'", "access_tokens_kind"),
        ("delete from access_tokens", "user_auth_sessions_token_id_fkey"),
        ("delete from applications", "access_tokens_app_id_fkey"),
    ] {
        let error = sqlx::raw_sql(statement).execute(&mut db).await.unwrap_err();
        let refused_by = error.as_database_error().and_then(|error| error.constraint());
        assert!(refused_by.is_some_and(|name| name == constraint), "{statement}: {error}");
    }
}
