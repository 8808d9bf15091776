//! Hot queries go through the indexes made for them.

use larkauth_models::{AppId, OpenId, SessionId, SessionState, Timestamp};
use sqlx::{AssertSqlSafe, SqliteConnection};
use uuid::Uuid;

use super::{api_keys, creation, events, people, sessions};
use crate::{SessionCursor, SessionFilter, testing::TestSqlite};

async fn plan(db: &mut SqliteConnection, statement: &str) -> String {
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(AssertSqlSafe(format!("explain query plan {statement}"))).fetch_all(db).await.unwrap();
    steps.into_iter().map(|(.., step)| step).collect::<Vec<_>>().join("; ")
}

/// A scan of an index in its order, cut off by a limit, is what a list wants; one of a table never is.
fn scans_a_table(plan: &str) -> bool {
    plan.split("; ").filter_map(|step| step.strip_prefix("SCAN ")).any(|what| {
        // Others say `USING INDEX`, `CONSTANT ROW` or `(subquery)`.
        what.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    })
}

#[tokio::test]
async fn hot_queries_use_their_indexes() {
    let database = TestSqlite::create().await;
    let mut db = database.connection().await;
    let list = |app: Option<&str>, open_id: Option<&str>, state, continued: bool| {
        let filter = SessionFilter {
            app_id: app.map(|app| AppId::new(app).unwrap()),
            open_id: open_id.map(|open_id| OpenId::new(open_id).unwrap()),
            state,
        };
        let after = SessionCursor { created_at: Timestamp::UNIX_EPOCH, id: SessionId(Uuid::nil()) };
        sessions::list(&filter, continued.then_some(after), 50).sql().as_str().to_owned()
    };
    let (app, person) = (Some("cli_0000000000000001"), Some("ou_1"));
    let cases = [
        (sessions::BY_ID.to_owned(), "sqlite_autoindex_user_auth_sessions_1"),
        (sessions::BY_STATE.to_owned(), "sqlite_autoindex_user_auth_sessions_2"),
        (creation::IN_THE_WAY.to_owned(), "user_auth_sessions_by_open_id"),
        (creation::IN_THE_WAY.to_owned(), "user_auth_sessions_by_user_id"),
        (list(None, None, None, false), "user_auth_sessions_by_creation"),
        (list(None, None, None, true), "user_auth_sessions_by_creation"),
        (list(None, None, Some(SessionState::Failed), true), "user_auth_sessions_by_creation"),
        (list(app, None, None, false), "user_auth_sessions_by_app"),
        (list(app, None, None, true), "user_auth_sessions_by_app"),
        (list(app, person, None, true), "user_auth_sessions_by_open_id"),
        (list(None, person, None, false), "user_auth_sessions_by_open_id"),
        (sessions::END.to_owned(), "sqlite_autoindex_user_auth_sessions_1"),
        (sessions::EXPIRE.to_owned(), "user_auth_sessions_pending"),
        (sessions::TAKE_STALE_CARDS.to_owned(), "user_auth_sessions_stale_card"),
        (people::TOKEN.to_owned(), "sqlite_autoindex_access_tokens_1"),
        (people::PROFILE.to_owned(), "SEARCH user_profiles USING PRIMARY KEY"),
        (events::EXISTS.to_owned(), "SEARCH processed_events USING"),
        (events::PURGE.to_owned(), "processed_events_by_time"),
        (api_keys::BY_HASH.to_owned(), "sqlite_autoindex_api_keys_2"),
    ];
    for (statement, index) in cases {
        let plan = plan(&mut db, &statement).await;
        assert!(plan.contains(index) && !scans_a_table(&plan), "{statement}: {plan}");
    }
    let slow = plan(&mut db, "select 1 from user_profiles where name = ?1").await;
    assert!(scans_a_table(&slow), "the check can fail: {slow}");
}
