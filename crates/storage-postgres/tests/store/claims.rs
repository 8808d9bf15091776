//! The cost of taking due tokens does not depend on their number.

use std::time::Duration;

use larkauth_models::{AppId, Timestamp};
use larkauth_storage::{DueOrder, Refreshes, testing::TestAuthorization};
use larkauth_storage_postgres::{PgStore, testing::TestDatabase};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;
use uuid::Uuid;

const APP: &str = "cli_00000000000000a1";
const LIMIT: u32 = 8;

/// A database with so many tokens of one application that are all due. A third of the logins end within a day, a third of
/// the access tokens within the hour, and a third are over.
async fn with_due_tokens(rows: u32) -> (TestDatabase, PgStore) {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    let registered = TestAuthorization::new(1);
    assert_eq!(registered.app_id.as_str(), APP);
    registered.register(&store).await;
    let mut db = database.connection().await;
    let fill = format!(
        "insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                                    refresh_expires_at, scopes, issued_at, granted_at, next_attempt_at)
         select '{APP}', 'ou_' || n, 'user', '', now() + (n % 3 - 1) * interval '30 minutes' + n * interval '1 ms', '',
             now() + (1 + n % 3 * 48) * interval '1 hour' + n * interval '1 ms', '{{}}', now(), now(),
             now() - n * interval '1 ms'
         from generate_series(1, {rows}) n"
    );
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut db).await.unwrap();
    sqlx::raw_sql("vacuum analyze access_tokens").execute(&mut db).await.unwrap();
    (database, store)
}

/// Returns the median time of a claim in each of the three orders.
async fn claim_times(database: &TestDatabase, store: &PgStore, claims: u32) -> [Duration; 3] {
    let mut db = database.connection().await;
    let now: Timestamp = sqlx::query_scalar("select now()").fetch_one(&mut db).await.unwrap();
    let at = |hours: u64| now + Duration::from_secs(3600 * hours);
    let orders = [(24, 0), (0, 1), (0, 0)].map(|(logins, access)| DueOrder {
        now,
        logins_before: at(logins),
        access_before: at(access),
    });
    let app_id = AppId::new(APP).unwrap();
    let mut medians = [Duration::ZERO; 3];
    for (order, median) in orders.iter().zip(&mut medians) {
        let mut times = Vec::new();
        for number in 0..claims {
            let started = Instant::now();
            let owner = Uuid::from_u128(1 + u128::from(number));
            // The rows hold no tokens that can be opened: they are leased and left out.
            store.claim_due_refreshes(&app_id, order, owner, Duration::from_secs(300), LIMIT).await.unwrap();
            times.push(started.elapsed());
        }
        times.sort();
        *median = times[times.len() / 2];
    }
    let leased: i64 = sqlx::query_scalar("select count(*) from access_tokens where lease_owner is not null")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert_eq!(leased, i64::from(3 * claims * LIMIT), "each claim is a full one");
    medians
}

#[expect(clippy::print_stdout, reason = "what was measured is a result")]
async fn compare(few: u32, many: u32, claims: u32, factor: f64) {
    let (small, small_store) = with_due_tokens(few).await;
    let (large, large_store) = with_due_tokens(many).await;
    // The first claims warm the caches.
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let few_times = claim_times_after_reset(&small, &small_store, claims).await;
        let many_times = claim_times_after_reset(&large, &large_store, claims).await;
        println!(
            "medians of {claims} claims in each order: {few_times:?} among {few}, {many_times:?} among {many}"
        );
        ratios.push([0, 1, 2].map(|order| many_times[order].as_secs_f64() / few_times[order].as_secs_f64()));
    }
    for order in 0..3 {
        let best = ratios.iter().map(|ratios| ratios[order]).fold(f64::MAX, f64::min);
        assert!(best <= factor, "order {order}: {ratios:?}");
    }
}

async fn claim_times_after_reset(database: &TestDatabase, store: &PgStore, claims: u32) -> [Duration; 3] {
    let mut db = database.connection().await;
    let reset =
        "update access_tokens set lease_owner = null, lease_until = null where lease_owner is not null";
    sqlx::raw_sql(reset).execute(&mut db).await.unwrap();
    claim_times(database, store, claims).await
}

#[tokio::test]
async fn claim_among_many_due_tokens_takes_about_as_long_as_among_few() {
    // A scan of all would take fifty times as long.
    compare(2_000, 100_000, 15, 3.0).await;
}

#[tokio::test]
#[ignore = "takes a minute: scripts/test --full"]
async fn claim_among_a_million_due_tokens_takes_as_long_as_among_ten_thousand() {
    compare(10_000, 1_000_000, 60, 1.3).await;
}
