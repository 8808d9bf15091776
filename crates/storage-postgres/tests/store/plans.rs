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
        oauth_state_sha256, oauth_state_sealed, pkce_verifier_sealed, message_id, card_face, created_at, expires_at, ended_at)
    select gen_random_uuid(), 'cli_' || lpad((n % 200 + 1)::text, 16, '0'), 'u' || n % 500, 'ou_' || n % 500, 'u' || n % 500, 'oauth',
        case when pending then 'pending' else 'rejected' end, '{}', '{}',
        sha256(n::text::bytea), case when pending then ''::bytea end, case when pending then ''::bytea end,
        'om_' || n, case when n % 500 = 1 then 'invitation' else 'declined' end,
        now() - n * interval '5 ms', now() - n * interval '5 ms' + interval '10 minutes',
        case when pending then null else now() - n * interval '5 ms' end
    from (select n, n % 300 = 0 as pending from generate_series(1, 8000) n) n;

    insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, scopes, issued_at, granted_at,
                               refresh_token_sealed, next_attempt_at)
    select 'cli_' || lpad((n % 5 + 1)::text, 16, '0'), 'ou_' || n, 'user', '', now(), '{}', now(), now(),
        '', now() + (n - 50) * interval '1 minute'
    from generate_series(1, 5000) n;

    insert into user_profiles (app_id, open_id, updated_at)
    select 'cli_' || lpad((n % 5 + 1)::text, 16, '0'), 'ou_' || n, now() from generate_series(1, 5000) n;

    insert into processed_events (consumer, event_id, processed_at)
    select 'cards', 'e-' || n, now() - n * interval '1 minute' from generate_series(1, 5000) n;

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
    let due = "now(), now(), 50, gen_random_uuid(), 30000000";
    let cases: [(&str, String, &str, &[&str]); 22] = [
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
            "from access_tokens where app_id = $1 and open_id = $2 and kind = $3",
            app("'ou_1', 'user'"),
            "access_tokens_one_per_person",
            &always,
        ),
        ("order by next_attempt_at limit", due.to_owned(), "access_tokens_due", &always),
        ("from user_profiles where app_id = $1", app("'ou_1'"), "user_profiles_pkey", &always),
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
    ];
    for (part, parameters, index, modes) in cases {
        for mode in modes {
            let plan = plan(&mut db, mode, part, &parameters).await;
            assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{part} ({mode}): {plan}");
        }
    }
}
