//! Plans of frequent queries.

use larkauth_storage_postgres::testing::TestDatabase;
use sqlx::{AssertSqlSafe, PgConnection};

/// Many sessions, of which few are pending or have a stale card, and tables that are large enough for an index scan.
const FILL: &str = "
    insert into applications (app_id, app_secret_sealed, brand, token_api, redirect_uri, default_scopes, enabled,
                              created_at, updated_at)
    select 'cli_' || lpad(n::text, 16, '0'), '', 'feishu', 'v2', 'http://x/', '{}', true, now(), now()
    from generate_series(1, 2000) n;

    insert into user_auth_sessions (session_id, app_id, user_id, open_id, asked_user_id, auth_method, state, scopes, card,
        oauth_state_sha256, oauth_state_sealed, pkce_verifier_sealed, message_id, card_face, created_at, expires_at, ended_at,
        announced_at)
    select gen_random_uuid(), 'cli_' || lpad((n % 200 + 1)::text, 16, '0'), 'u' || n % 500, 'ou_' || n % 500, 'u' || n % 500, 'oauth',
        case when pending then 'pending' else 'rejected' end, '{}', '{}',
        sha256(n::text::bytea), case when pending then ''::bytea end, case when pending then ''::bytea end,
        'om_' || n, case when n % 500 = 1 then 'invitation' else 'declined' end,
        now() - n * interval '5 ms', now() - n * interval '5 ms' + interval '10 minutes',
        case when pending then null else now() - n * interval '5 ms' end,
        case when pending or n % 400 = 1 then null else now() end
    from (select n, n % 300 = 0 as pending from generate_series(1, 8000) n) n;

    insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_expires_at, scopes,
                               issued_at, granted_at, refresh_token_sealed, next_attempt_at)
    select 'cli_' || lpad((n % 5 + 1)::text, 16, '0'), 'ou_' || n, 'user', '', now() + (n - 2500) * interval '3 seconds',
        now() + n * interval '2 minutes', '{}', now(), now(), '', now() + (n - 2500) * interval '1 second'
    from generate_series(1, 5000) n;

    insert into user_profiles (app_id, open_id, updated_at)
    select 'cli_' || lpad((n % 5 + 1)::text, 16, '0'), 'ou_' || n, now() from generate_series(1, 5000) n;

    insert into processed_events (consumer, event_id, processed_at)
    select 'cards', 'e-' || n, now() - n * interval '1 minute' from generate_series(1, 5000) n;

    insert into audit_log (audit_id, at, actor_kind, actor_id, action, app_id, person, outcome)
    select gen_random_uuid(), now() - n * interval '1 minute', case when n % 50 = 0 then 'person' else 'operator' end,
        'actor-' || n % 300, case when n % 700 = 1 then 'app.disable' else 'token.serve' end,
        'cli_' || lpad((n % 200 + 1)::text, 16, '0'), 'ou_' || n % 500, 'ok'
    from generate_series(1, 8000) n;

    insert into call_budgets (app_id, class, granted_until)
    select 'cli_' || lpad((n % 2000)::text, 16, '0'), case when n < 2000 then 'token' else 'message_send' end, now()
    from generate_series(0, 3999) n;

    insert into api_keys (key_id, name, scopes, key_sha256, created_at)
    select gen_random_uuid(), 'x', '{}', sha256(n::text::bytea), now() from generate_series(1, 5000) n;

    analyze;
";

const APP: &str = "'cli_0000000000000001'";
const ID: &str = "'018bcfe5-687b-7000-8000-000000000000'";

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

async fn plan(db: &mut PgConnection, mode: &str, part: &str, parameters: &str) -> String {
    let statement = query(part);
    let prepare = format!("deallocate all; set plan_cache_mode = {mode}; prepare hot as {statement}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *db).await.unwrap();
    let explain = format!("explain (format json) execute hot ({parameters})");
    let plan: serde_json::Value =
        sqlx::query_scalar(AssertSqlSafe(explain)).persistent(false).fetch_one(db).await.unwrap();
    plan.to_string()
}

#[tokio::test]
async fn hot_query_plan_uses_index() {
    let database = TestDatabase::create().await;
    let mut db = database.connection().await;
    sqlx::raw_sql(FILL).execute(&mut db).await.unwrap();

    let app = |rest: &str| format!("{APP}, {rest}");
    let id = |rest: &str| format!("{ID}{rest}");
    let hash = "sha256('1')";
    let always = ["force_custom_plan", "force_generic_plan"];
    let once = ["force_custom_plan"];
    let list = "order by created_at desc, session_id desc limit $6";
    let due =
        |before: &str| app(&format!("now(), now() + interval '{before}', 8, gen_random_uuid(), 30000000"));
    let audit = "order by at desc, audit_id desc limit $10";
    let page = "null, null, null, null, 50";
    let cases: [(&str, String, &str, &[&str]); 46] = [
        (
            "completed_at from user_auth_sessions where session_id = $1",
            id(""),
            "user_auth_sessions_pkey",
            &always,
        ),
        ("where oauth_state_sha256 = $1", hash.to_owned(), "user_auth_sessions_oauth_state", &always),
        (
            "order by created_at desc offset $5",
            app("'ou_1', null, now() - interval '1 minute', 4"),
            "user_auth_sessions_by_open_id",
            &always,
        ),
        (
            "order by created_at desc offset $5",
            app("null, 'u1', now() - interval '1 minute', 4"),
            "user_auth_sessions_by_user_id",
            &always,
        ),
        (list, "null, null, null, null, null, 50, '{}'".to_owned(), "user_auth_sessions_by_creation", &once),
        (list, format!("null, null, null, now(), {ID}, 50, '{{}}'"), "user_auth_sessions_by_creation", &once),
        (list, app("null, null, null, null, 50, '{}'"), "user_auth_sessions_by_app", &once),
        (list, app(&format!("null, null, now(), {ID}, 50, '{{}}'")), "user_auth_sessions_by_app", &once),
        (list, app("'ou_1', null, null, null, 50, '{}'"), "user_auth_sessions_by_open_id", &once),
        (list, "null, 'ou_1', null, null, null, 50, '{}'".to_owned(), "user_auth_sessions_by_open_id", &once),
        (
            "set state = $2, failure_reason = $3",
            id(", 'rejected', null, now()"),
            "user_auth_sessions_pkey",
            &always,
        ),
        (
            "and state = 'pending' for update",
            id(&format!(", '\\x01', {ID}")),
            "user_auth_sessions_pkey",
            &always,
        ),
        (
            "where exchange_sent_at is not null and exchange_claimed_until <= clock_timestamp()",
            "100".to_owned(),
            "user_auth_sessions_sent",
            &always,
        ),
        (
            "where device_poll_at <= statement_timestamp()",
            format!("now(), now(), 15000000, array[{ID}]::uuid[], 30000000"),
            "user_auth_sessions_device_polls",
            &always,
        ),
        (
            "order by expires_at limit $2",
            "now() + interval '1 hour', 100".to_owned(),
            "user_auth_sessions_pending",
            &always,
        ),
        (
            "where card_is_stale",
            "now(), now() - interval '1 hour', now(), 100".to_owned(),
            "user_auth_sessions_stale_card",
            &always,
        ),
        (
            "where announced_at is null and ended_at is not null and ended_at < $1",
            format!("now(), 'epoch', {ID}, 100"),
            "user_auth_sessions_unannounced",
            &always,
        ),
        (
            "status, failures, next_attempt_at, last_used_at from access_tokens where app_id = $1 and open_id",
            app("'ou_1', 'user'"),
            "access_tokens_one_per_person",
            &always,
        ),
        ("order by ask_at limit", app("now(), now(), 100, null"), "access_tokens_to_ask", &always),
        (
            "order by granted_at limit",
            app("now(), now(), 100, now() - interval '351 days'"),
            "access_tokens_by_grant",
            &always,
        ),
        (
            "(status_announcements % 2 = 1) and status <> 'revoked'",
            "'', '', 100".to_owned(),
            "access_tokens_unannounced",
            &always,
        ),
        ("order by synced_at, open_id limit", app("now(), 50"), "user_profiles_by_sync", &always),
        ("order by synced_at limit", app("now(), 50"), "user_profiles_by_sync", &always),
        (
            "order by refresh_expires_at limit $4",
            due("8 hours"),
            "\"access_tokens_due_by_login_end\"",
            &always,
        ),
        (
            "order by access_expires_at limit $4",
            due("24 minutes"),
            "\"access_tokens_due_by_access_end\"",
            &always,
        ),
        ("order by next_attempt_at limit $4", due("0"), "\"access_tokens_due\"", &always),
        ("with budget as", app("'token', 8, 61000, 488000, 7200000000"), "call_budgets_pkey", &once),
        ("tenant_key from user_profiles where app_id = $1", app("'ou_1'"), "user_profiles_pkey", &always),
        (
            "exists(select from processed_events",
            "'cards', 'e-1'".to_owned(),
            "processed_events_pkey",
            &always,
        ),
        (
            "delete from processed_events",
            "now() - interval '4990 minutes', 100".to_owned(),
            "processed_events_by_time",
            &always,
        ),
        ("from api_keys where key_sha256", hash.to_owned(), "api_keys_key", &always),
        (audit, format!("null, '{{}}', null, null, null, {page}"), "audit_log_by_time", &once),
        (
            audit,
            format!("null, '{{}}', null, null, null, null, null, now(), {ID}, 50"),
            "audit_log_by_time",
            &once,
        ),
        (audit, format!("null, array[{APP}], null, null, null, {page}"), "audit_log_by_app", &once),
        (audit, format!("{APP}, '{{}}', null, null, null, {page}"), "audit_log_by_app", &once),
        (audit, format!("null, '{{}}', 'ou_1', null, null, {page}"), "audit_log_by_person", &once),
        (audit, format!("null, '{{}}', null, 'actor-1', null, {page}"), "audit_log_by_actor", &once),
        (audit, format!("null, '{{}}', null, null, 'app.disable', {page}"), "audit_log_by_action", &once),
        (
            "select audit_id from audit_log where at < $1",
            "now() - interval '7900 minutes', 100".to_owned(),
            "audit_log_by_time",
            &always,
        ),
        ("update audit_log set person", app("array['ou_1', 'u1'], 'x', 100"), "audit_log_by_person", &always),
        (
            "update audit_log set actor_id",
            app("array['actor-1', 'u1'], 'x', 100"),
            "audit_log_by_actor",
            &always,
        ),
        (
            "where created_at < $1 and state <> 'pending'",
            "now() - interval '39 seconds', 100".to_owned(),
            "user_auth_sessions_by_creation",
            &always,
        ),
        (
            "select app_id, open_id from user_profiles where (app_id, open_id) > ($1, $2)",
            format!("{APP}, 'ou_1', 100"),
            "user_profiles_pkey",
            &always,
        ),
        (
            "delete from user_profiles where ctid",
            format!("{APP}, 'ou_1', {APP}, 'ou_3000', 200"),
            "user_profiles_pkey",
            &always,
        ),
        ("select $2::text as \"id!\"", app("'ou_1'"), "user_auth_sessions_by_open_id", &always),
        (
            "delete from user_auth_sessions where session_id = any(array( select session_id from user_auth_sessions where open_id",
            app("'ou_1'"),
            "user_auth_sessions_by_user_id",
            &always,
        ),
    ];
    for (part, parameters, index, modes) in cases {
        for mode in modes {
            let plan = plan(&mut db, mode, part, &parameters).await;
            assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{part} ({mode}): {plan}");
        }
    }
}

/// The rotation of keys updates rows by their keys. The horizon reads its index, and the applications with an open breaker.
#[tokio::test]
async fn reseal_and_horizon_plan_uses_index() {
    let database = TestDatabase::create().await;
    let mut db = database.connection().await;
    sqlx::raw_sql(FILL).execute(&mut db).await.unwrap();
    let null = |count: usize| ", null".repeat(count);
    let page = "now(), '', '', now() + interval '30 days', null, 50";
    let cases = [
        (
            "update applications set app_secret_sealed = $2",
            format!("{APP}, '\\x'{}, '\\x'{}", null(2), null(2)),
            "applications_pkey",
        ),
        (
            "update access_tokens set access_token_sealed = $4, refresh_token_sealed",
            format!("{APP}, 'ou_1', 'user'{}", null(4)),
            "access_tokens_one_per_person",
        ),
        (
            "update user_profiles set email_sealed = $3, mobile_sealed = $4 where",
            format!("{APP}, 'ou_1'{}", null(4)),
            "user_profiles_pkey",
        ),
        (
            "update user_auth_sessions set email_sealed = $2",
            format!("{ID}{}", null(12)),
            "user_auth_sessions_pkey",
        ),
        ("order by loses_at, app_id, open_id limit $6", page.to_owned(), "access_tokens_by_loss"),
        (
            "order by t.access_expires_at, t.app_id, t.open_id limit $6",
            page.to_owned(),
            "applications_frozen",
        ),
        (
            "and loses_at <= $2 and ($3::text is null",
            "now(), now() + interval '30 days', null".to_owned(),
            "access_tokens_by_loss",
        ),
        (
            "loss_reason = 'consent_ends'",
            "now(), now() + interval '14 days'".to_owned(),
            "access_tokens_by_loss",
        ),
    ];
    for (part, parameters, index) in cases {
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let plan = plan(&mut db, mode, part, &parameters).await;
            assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{part} ({mode}): {plan}");
        }
    }
}

/// The gauges are updated every few seconds. Their statement reads the indexes alone, and the applications.
#[tokio::test]
async fn active_counts_plan_reads_indexes_only() {
    let database = TestDatabase::create().await;
    let mut db = database.connection().await;
    sqlx::raw_sql(FILL).execute(&mut db).await.unwrap();
    sqlx::raw_sql("vacuum analyze").execute(&mut db).await.unwrap();
    let statement = query("s.state = 'pending') as");
    let explain = format!("explain (format json) {statement}");
    let plan: serde_json::Value =
        sqlx::query_scalar(AssertSqlSafe(explain)).persistent(false).fetch_one(&mut db).await.unwrap();
    let mut scans = Vec::new();
    collect_scans(&plan, &mut scans);
    scans.retain(|(_, table, _)| table != "applications");
    scans.sort();
    assert_eq!(
        scans,
        [
            // The active ones, and the suspended ones.
            ("Index Only Scan", "access_tokens", "access_tokens_by_status"),
            ("Index Only Scan", "access_tokens", "access_tokens_by_status"),
            ("Index Only Scan", "user_auth_sessions", "user_auth_sessions_pending_by_app"),
        ]
        .map(|(node, table, index)| (node.to_owned(), table.to_owned(), index.to_owned())),
        "{plan}"
    );
}

/// So are those of the risks.
#[tokio::test]
async fn token_risks_plan_reads_indexes_only() {
    let database = TestDatabase::create().await;
    let mut db = database.connection().await;
    sqlx::raw_sql(FILL).execute(&mut db).await.unwrap();
    sqlx::raw_sql("vacuum analyze").execute(&mut db).await.unwrap();
    let statement = query("frozen_since is not null as \"is_frozen!\"");
    let explain = format!("explain (format json) {statement}");
    let plan: serde_json::Value =
        sqlx::query_scalar(AssertSqlSafe(explain)).persistent(false).fetch_one(&mut db).await.unwrap();
    let mut scans = Vec::new();
    collect_scans(&plan, &mut scans);
    scans.retain(|(_, table, _)| table != "applications");
    assert_eq!(scans.len(), 2, "{plan}");
    assert!(scans.iter().all(|(node, _, _)| node == "Index Only Scan"), "{plan}");
}

/// Every process looks for due tokens every second. The statement looks into the index once for each application.
#[tokio::test]
async fn due_applications_plan_reads_index_only_as_far_as_needed() {
    let database = TestDatabase::create().await;
    let mut db = database.connection().await;
    sqlx::raw_sql(FILL).execute(&mut db).await.unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let plan = plan(&mut db, mode, "from applications a, lateral (", "now(), now(), 8").await;
        let mut scans = Vec::new();
        collect_scans(&serde_json::from_str(&plan).unwrap(), &mut scans);
        scans.retain(|(_, table, _)| table != "applications");
        let expected = ("Index Scan", "access_tokens", "access_tokens_due");
        assert_eq!(scans, [(expected.0.into(), expected.1.into(), expected.2.into())], "{plan}");
    }
}

/// Collects the kind, the table and the index of every node of a plan that reads a table.
fn collect_scans(plan: &serde_json::Value, found: &mut Vec<(String, String, String)>) {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    match plan {
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| collect_scans(part, found)),
        serde_json::Value::Object(node) => {
            if node.contains_key("Relation Name") {
                found.push((
                    text(&node["Node Type"]),
                    text(&plan["Relation Name"]),
                    text(&plan["Index Name"]),
                ));
            }
            node.values().for_each(|part| collect_scans(part, found));
        }
        _ => {}
    }
}

/// Deleting a token makes the database look for sessions that refer to it, which no plan of a statement shows.
#[tokio::test]
async fn erase_person_scans_no_table() {
    let database = TestDatabase::create().await;
    let mut db = database.connection().await;
    sqlx::raw_sql(FILL).execute(&mut db).await.unwrap();
    let scans = "select coalesce(sum(seq_scan), 0)::bigint from pg_stat_xact_user_tables
                 where relname in ('user_auth_sessions', 'access_tokens', 'user_profiles')";
    let mut tx = sqlx::Connection::begin(&mut db).await.unwrap();
    for statement in [
        "delete from user_auth_sessions where session_id = any(array( select session_id from user_auth_sessions where open_id",
        "delete from access_tokens where app_id = $1",
        "delete from user_profiles where app_id = $1",
    ] {
        let done = sqlx::query(AssertSqlSafe(query(statement)))
            .bind("cli_0000000000000001")
            .bind("ou_5")
            .execute(&mut *tx)
            .await
            .unwrap();
        assert_eq!(done.rows_affected() > 0, !statement.contains("sessions"), "{statement}");
    }
    let scanned: i64 = sqlx::query_scalar(scans).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(scanned, 0);
    sqlx::raw_sql("select count(*) from access_tokens where scopes = '{x}'").execute(&mut *tx).await.unwrap();
    let scanned: i64 = sqlx::query_scalar(scans).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(scanned, 1, "the check detects a table scan");
}
