//! Plans of frequent queries.

use larkauth_storage_sqlite::testing::TestSqlite;
use sqlx::{AssertSqlSafe, SqliteConnection};

/// Returns the compiled query that contains a text.
fn query(part: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        let query = data["query"].as_str().unwrap();
        let words = query.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.contains(part) {
            found.push(query.to_owned());
        }
    }
    assert_eq!(found.len(), 1, "queries with `{part}`");
    found.remove(0)
}

async fn plan(db: &mut SqliteConnection, statement: &str) -> String {
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(AssertSqlSafe(format!("explain query plan {statement}"))).fetch_all(db).await.unwrap();
    steps.into_iter().map(|(.., step)| step).collect::<Vec<_>>().join("; ")
}

/// Returns whether the plan scans a table. A scan of an index in its order, cut off by a limit, is what a list needs.
fn scans_a_table(plan: &str) -> bool {
    plan.split("; ").filter_map(|step| step.strip_prefix("SCAN ")).any(|what| {
        // Other scans say `USING INDEX`, `CONSTANT ROW` or `(subquery)`.
        what.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    })
}

#[tokio::test]
async fn hot_query_plan_uses_index() {
    let database = TestSqlite::create().await;
    let mut db = database.connection().await;
    let cases = [
        (
            "completed_at as \"completed_at!: OptionalMicros\" from user_auth_sessions where session_id = ?1",
            "sqlite_autoindex_user_auth_sessions_1",
        ),
        ("where oauth_state_sha256 = ?1", "sqlite_autoindex_user_auth_sessions_2"),
        ("order by created_at desc limit 1 offset ?5", "user_auth_sessions_by_open_id"),
        ("order by created_at desc limit 1 offset ?5", "user_auth_sessions_by_user_id"),
        (
            "from user_auth_sessions where (created_at, session_id) < (?1, ?2)",
            "user_auth_sessions_by_creation",
        ),
        ("from user_auth_sessions where app_id = ?5 and (created_at", "user_auth_sessions_by_app"),
        ("from user_auth_sessions where open_id = ?5", "user_auth_sessions_by_open_id"),
        ("from user_auth_sessions where app_id = ?5 and open_id = ?6", "user_auth_sessions_by_open_id"),
        ("state = ?2, failure_reason = ?3, ended_at = ?4", "sqlite_autoindex_user_auth_sessions_1"),
        ("set state = 'expired'", "user_auth_sessions_pending"),
        ("set card_asked_at = ?1", "user_auth_sessions_stale_card"),
        ("where exchange_sent_at is not null and exchange_claimed_until <=", "user_auth_sessions_sent"),
        ("where device_poll_at <= cast(unixepoch('subsec')", "user_auth_sessions_device_polls"),
        (
            "where announced_at is null and ended_at is not null and ended_at < ?1",
            "user_auth_sessions_unannounced",
        ),
        (
            "from access_tokens where app_id = ?1 and open_id = ?2 and kind = ?3 and status <> 'revoked'",
            "sqlite_autoindex_access_tokens_1",
        ),
        ("order by ask_at limit ?4", "access_tokens_to_ask"),
        ("order by granted_at limit ?4", "access_tokens_by_grant"),
        ("(status_announcements % 2 = 1) and status <> 'revoked'", "access_tokens_unannounced"),
        ("order by synced_at, open_id limit ?3", "user_profiles_by_sync"),
        ("order by synced_at limit ?3", "user_profiles_by_sync"),
        ("order by refresh_expires_at limit ?4", "access_tokens_due_by_login_end"),
        ("order by access_expires_at limit ?4", "access_tokens_due_by_access_end"),
        ("order by next_attempt_at limit ?4", "access_tokens_due (app_id=? AND next_attempt_at<?)"),
        ("as \"lead!: i64\" from call_budgets", "PRIMARY KEY"),
        (
            "tenant_key from user_profiles where app_id = ?1 and open_id = ?2",
            "SEARCH user_profiles USING PRIMARY KEY",
        ),
        ("select exists(select 1 from processed_events", "SEARCH processed_events USING"),
        ("delete from processed_events", "processed_events_by_time"),
        ("from api_keys where key_sha256 = ?1", "sqlite_autoindex_api_keys_2"),
        ("from audit_log where (at, audit_id) < (?1, ?2)", "audit_log_by_time"),
        ("from audit_log where app_id = ?6 and (at", "audit_log_by_app"),
        ("from audit_log where person = ?7 and (at", "audit_log_by_person"),
        ("from audit_log where actor_id = ?10 and (at", "audit_log_by_actor"),
        ("from audit_log where action = ?8 and (at", "audit_log_by_action"),
        ("select audit_id from audit_log where at < ?1", "audit_log_by_time"),
        ("update audit_log set person", "audit_log_by_person"),
        ("update audit_log set actor_id", "audit_log_by_actor"),
        ("where created_at < ?1 and state <> 'pending'", "user_auth_sessions_by_creation"),
        (
            "select app_id, open_id from user_profiles where (app_id, open_id) > (?1, ?2)",
            "SEARCH user_profiles USING PRIMARY KEY",
        ),
        ("delete from user_profiles where (app_id, open_id) in", "user_auth_sessions_by_open_id"),
        (
            "union select user_id from user_auth_sessions where app_id = ?1 and open_id = ?2",
            "user_auth_sessions_by_open_id",
        ),
        (
            "delete from user_auth_sessions where session_id in ( select session_id from user_auth_sessions where open_id",
            "user_auth_sessions_by_user_id",
        ),
        ("delete from access_tokens where app_id", "sqlite_autoindex_access_tokens_1"),
        ("s.state = 'pending') as", "COVERING INDEX user_auth_sessions_pending"),
        ("insert into job_ticks", ""),
    ];
    for (part, index) in cases {
        let statement = query(part);
        let plan = plan(&mut db, &statement).await;
        assert!(plan.contains(index) && !scans_a_table(&plan), "{statement}: {plan}");
    }
    let slow = plan(&mut db, "select 1 from user_profiles where name = ?1").await;
    assert!(scans_a_table(&slow), "the check detects a table scan: {slow}");
}

/// The rotation of keys updates rows by their keys. The horizon reads its index, and the applications with an open breaker.
#[tokio::test]
async fn reseal_and_horizon_plan_uses_index() {
    let database = TestSqlite::create().await;
    let mut db = database.connection().await;
    for (part, index) in [
        ("update applications set app_secret_sealed = ?2", "sqlite_autoindex_applications_1"),
        (
            "update access_tokens set access_token_sealed = ?4, refresh_token_sealed",
            "sqlite_autoindex_access_tokens_1",
        ),
        ("update user_profiles set email_sealed = ?3, mobile_sealed = ?4 where", "USING PRIMARY KEY"),
        ("update user_auth_sessions set email_sealed = ?2", "sqlite_autoindex_user_auth_sessions_1"),
        ("order by loses_at, app_id, open_id limit ?6", "access_tokens_by_loss"),
        ("order by t.access_expires_at, t.app_id, t.open_id limit ?6", "applications_frozen"),
        ("and loses_at <= ?2 and (?3 is null", "INDEX access_tokens_by_loss (loses_at"),
    ] {
        let statement = query(part);
        let plan = plan(&mut db, &statement).await;
        assert!(plan.contains(index) && !scans_a_table(&plan), "{statement}: {plan}");
    }
}

/// Every process looks for due tokens every second. The statement looks into the index once for each application.
#[tokio::test]
async fn due_applications_plan_reads_index_of_due_tokens() {
    let database = TestSqlite::create().await;
    let mut db = database.connection().await;
    let plan = plan(&mut db, &query("from applications a where enabled and (frozen_since is null")).await;
    assert!(plan.contains("access_tokens_due (app_id=? AND next_attempt_at<?)"), "{plan}");
    assert!(!plan.contains("SCAN t"), "{plan}");
}

/// The gauges are updated every few seconds. Their statements look into indexes, and read the applications.
#[tokio::test]
async fn gauges_plan_uses_indexes() {
    let database = TestSqlite::create().await;
    let mut db = database.connection().await;
    for (part, indexes) in [
        (
            "s.state = 'pending') as",
            ["COVERING INDEX user_auth_sessions_pending_by_app", "COVERING INDEX access_tokens_by_status"],
        ),
        // The first row of the index alone, which is the least.
        (
            "frozen_since is not null as",
            [
                "COVERING INDEX access_tokens_by_status",
                "INDEX access_tokens_due (app_id=? AND next_attempt_at>?)",
            ],
        ),
        // SQLite reads the rows, too, as the columns are generated.
        ("loss_reason = 'consent_ends'", ["INDEX access_tokens_by_loss (loses_at>? AND loses_at<?)"; 2]),
    ] {
        let statement = query(part);
        let plan = plan(&mut db, &statement).await;
        for index in indexes {
            assert!(plan.contains(&format!("USING {index}")), "{plan}");
        }
        assert!(!scans_a_table(&plan), "{plan}");
    }
}
