//! What a process keeps in memory: never older than the rule permits, also while announcements fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use larkauth_auth::{AppRegistry, AuthError, Context, ContextParts, Policy, api_keys::NewApiKey};
use larkauth_messaging::testing::{PATIENCE, eventually};
use larkauth_models::{Actor, AppId, KeyScope, ManualClock, OpenId, TokenKind, TokenPair};
use larkauth_storage::{
    RefreshClaim, RefreshedToken, Store,
    testing::{TestAuthorization, act},
};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_storage_sqlite::testing::TestSqlite;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::{ACTOR, Fixture, policy};

const SECOND: Duration = Duration::from_secs(1);
/// Generation of the token that each case begins with: it cannot be refreshed, and is valid for two hours.
const FIRST: i64 = 2;

/// Two processes on one database.
struct Pair {
    one: Context,
    other: Context,
    other_store: Arc<dyn Store>,
    person: TestAuthorization,
    _fixture: Fixture,
    /// Aborts the tasks that follow changes.
    following: JoinSet<()>,
}

impl Pair {
    /// With policies of one's own, on a store per process.
    async fn new(stores: [Arc<dyn Store>; 2], policy: Policy) -> Self {
        let fixture = Box::pin(Fixture::new()).await;
        let person = TestAuthorization::new(1);
        person.run(&*stores[0]).await;
        refresh(&*stores[0], &person, 1).await;
        let clock = Arc::new(ManualClock::at(person.started_at()));
        let [one, other] = stores.clone().map(|store| {
            let parts = fixture.parts.clone();
            let lark = parts.apps.lark().clone();
            let apps = AppRegistry::new(store.clone(), lark, clock.clone(), parts.metrics.clone(), &policy);
            let (apps, policy, clock) = (Arc::new(apps), policy.clone(), clock.clone());
            Context::new(ContextParts { store, apps, policy, clock, ..parts })
        });
        let [_, other_store] = stores;
        Self { one, other, other_store, person, _fixture: fixture, following: JoinSet::new() }
    }

    /// The first process follows the changes, and has begun to.
    async fn followed(mut self) -> Self {
        let one = self.one.clone();
        self.following.spawn(async move { one.follow_changes(CancellationToken::new()).await });
        let followed = "lark_service_changes_followed 1";
        eventually("changes are followed", async || self.one.metrics().render().contains(followed)).await;
        self
    }

    /// The generation that the first process serves.
    async fn read(&self) -> Result<i64, AuthError> {
        read(&self.one, &self.person.app_id, &self.person.open_id).await
    }

    /// Reads until it is refused, and checks that no read that began a second after `changed_at` was served.
    async fn refused_within_a_second(&self, changed_at: Instant) -> AuthError {
        loop {
            let began_at = Instant::now();
            match self.read().await {
                Err(error) => return error,
                Ok(_) => assert!(began_at - changed_at < SECOND, "served {:?} later", began_at - changed_at),
            }
            tokio::task::yield_now().await;
        }
    }
}

async fn read(context: &Context, app_id: &AppId, open_id: &OpenId) -> Result<i64, AuthError> {
    let token = context.valid_token(&ACTOR, context.now(), app_id, open_id, TimeDelta::zero(), &[]).await;
    token.map(|token| token.generation)
}

/// Stores a pair in place of a generation, as another process does.
async fn refresh(store: &dyn Store, of: &TestAuthorization, generation: i64) {
    let stored = store.token(&of.app_id, &of.open_id, TokenKind::User).await.unwrap().unwrap();
    let access_expires_at = of.started_at() + 7200 * SECOND;
    let refreshed = RefreshedToken {
        app_id: of.app_id.clone(),
        open_id: of.open_id.clone(),
        generation,
        pair: TokenPair {
            access_token: stored.pair.access_token.readable().unwrap().clone(),
            access_expires_at,
            refresh_token: None,
            refresh_expires_at: None,
            scopes: stored.pair.scopes,
        },
        failures: 0,
        next_attempt_at: None,
        now: of.started_at(),
    };
    assert!(store.complete_refresh(&refreshed).await.unwrap());
}

/// Reads are kept as in a process of an operator.
fn kept() -> Policy {
    let defaults = Policy::default();
    Policy { read_staleness: defaults.read_staleness, ..policy(100) }
}

/// Runs a case on both databases, with the changes followed and not.
async fn on_both(policy: Policy, case: impl AsyncFn(Pair)) {
    let (postgres, sqlite) = (TestDatabase::create().await, TestSqlite::create().await);
    for followed in [false, true] {
        let stores: [[Arc<dyn Store>; 2]; 2] = [
            [Arc::new(postgres.store().await), Arc::new(postgres.store().await)],
            [Arc::new(sqlite.store().await), Arc::new(sqlite.store().await)],
        ];
        for stores in stores {
            let person = TestAuthorization::new(1);
            let erased = act(person.started_at());
            stores[0].erase_person(&person.app_id, &person.open_id, &erased).await.unwrap();
            let pair = Box::pin(Pair::new(stores, policy.clone())).await;
            let pair = if followed { Box::pin(pair.followed()).await } else { pair };
            Box::pin(case(pair)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_or_erased_token_is_not_served_a_second_later_by_another_process() {
    on_both(kept(), async |pair: Pair| {
        let (app_id, open_id) = (&pair.person.app_id, &pair.person.open_id);
        assert_eq!(pair.read().await.unwrap(), FIRST);
        assert!(pair.other.revoke_token(&ACTOR, pair.other.now(), app_id, open_id).await.unwrap());
        let refused = pair.refused_within_a_second(Instant::now()).await;
        assert!(matches!(refused, AuthError::AuthenticationRequired), "{refused}");
        assert!(read(&pair.other, app_id, open_id).await.is_err(), "at once where it was revoked");
    })
    .await;
    on_both(kept(), async |pair: Pair| {
        let (app_id, open_id) = (&pair.person.app_id, &pair.person.open_id);
        assert_eq!(pair.read().await.unwrap(), FIRST);
        pair.other.erase_person(&ACTOR, pair.other.now(), app_id, open_id).await.unwrap();
        let refused = pair.refused_within_a_second(Instant::now()).await;
        assert!(matches!(refused, AuthError::AuthenticationRequired), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_of_disabled_application_is_not_served_a_second_later_by_another_process() {
    on_both(kept(), async |pair: Pair| {
        assert_eq!(pair.read().await.unwrap(), FIRST);
        let (app_id, now) = (&pair.person.app_id, pair.other.now());
        pair.other.set_application_enabled(&ACTOR, now, app_id, false).await.unwrap();
        let refused = pair.refused_within_a_second(Instant::now()).await;
        assert!(matches!(refused, AuthError::AppDisabled(_)), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_key_is_not_accepted_a_second_later_by_another_process() {
    on_both(kept(), async |pair: Pair| {
        let new = NewApiKey {
            name: "crm".to_owned(),
            scopes: vec![KeyScope::TokensRead],
            app_ids: Vec::new(),
            lark_scopes: Vec::new(),
            requests_per_minute: None,
            expires_at: None,
        };
        let operator = Actor::operator("root".to_owned(), None);
        let created = pair.other.create_api_key(&operator, pair.other.now(), new).await.unwrap();
        let secret = larkauth_models::ExposeSecret::expose_secret(&created.secret);
        let sha256 =
            sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), secret)).into();
        assert!(pair.one.authenticate_api_key(&sha256).await.unwrap().is_some());
        assert!(pair.other.revoke_api_key(&operator, pair.other.now(), created.key.id).await.unwrap());
        let revoked_at = Instant::now();
        loop {
            let began_at = Instant::now();
            if pair.one.authenticate_api_key(&sha256).await.unwrap().is_none() {
                break;
            }
            assert!(began_at - revoked_at < SECOND, "accepted {:?} later", began_at - revoked_at);
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Another generation, which the database does not announce.
const SILENT: &str = "alter table access_tokens disable trigger access_tokens_announce; update access_tokens set generation = 3";

/// What a database without triggers does not announce shows whether a value was read from it.
async fn without_announcements(policy: Policy, followed: bool) -> (Pair, TestDatabase) {
    let database = TestDatabase::create().await;
    let pair =
        Box::pin(Pair::new([Arc::new(database.store().await), Arc::new(database.store().await)], policy))
            .await;
    let pair = if followed { pair.followed().await } else { pair };
    assert_eq!(pair.read().await.unwrap(), FIRST);
    let mut db = database.connection().await;
    sqlx::raw_sql(SILENT).execute(&mut db).await.unwrap();
    (pair, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_token_is_served_for_as_long_as_its_changes_are_followed() {
    let policy = Policy { read_staleness: SECOND / 2, read_poll: SECOND / 50, ..kept() };
    let (pair, database) = without_announcements(policy, true).await;
    let mut db = database.connection().await;
    // On a machine that is busy with other work a proof may come too late, which ends the value: then once more.
    for _ in 0..20 {
        let loud = "alter table access_tokens enable trigger access_tokens_announce; update access_tokens set generation = 2";
        sqlx::raw_sql(loud).execute(&mut db).await.unwrap();
        eventually("the change is seen", async || pair.read().await.unwrap() == FIRST).await;
        sqlx::raw_sql(SILENT).execute(&mut db).await.unwrap();
        let changed_at = Instant::now();
        while pair.read().await.unwrap() == FIRST {
            if changed_at.elapsed() > SECOND {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    panic!("no token was served from memory for longer than a proof lasts");
}

#[tokio::test]
async fn kept_token_ends_by_its_life_though_no_change_is_announced() {
    let policy = Policy { read_life: SECOND / 2, ..kept() };
    let (pair, _database) = without_announcements(policy, true).await;
    let changed_at = Instant::now();
    loop {
        let began_at = Instant::now();
        if pair.read().await.unwrap() == 3 {
            break;
        }
        assert!(began_at - changed_at < SECOND / 2);
    }
}

#[tokio::test]
async fn kept_token_ends_after_a_second_when_the_channel_is_cut() {
    // After its first proof the channel is silent.
    let policy = Policy { read_poll: 3600 * SECOND, ..kept() };
    let (pair, _database) = without_announcements(policy, true).await;
    let changed_at = Instant::now();
    loop {
        let began_at = Instant::now();
        if pair.read().await.unwrap() == 3 {
            break;
        }
        assert!(began_at - changed_at < SECOND);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_feed_is_opened_anew() {
    let database = TestDatabase::create().await;
    let policy = Policy { read_poll: SECOND / 50, ..kept() };
    let pair =
        Box::pin(Pair::new([Arc::new(database.store().await), Arc::new(database.store().await)], policy))
            .await;
    let pair = pair.followed().await;
    let mut db = database.connection().await;
    let feeds = "select pid from pg_stat_activity where datname = current_database() and query like '%pg_notify%' and pid <> pg_backend_pid()";
    // Between two looks the session of the feed may show another statement.
    let looking = async {
        loop {
            let found: Vec<i32> = sqlx::query_scalar(feeds).fetch_all(&mut db).await.unwrap();
            if !found.is_empty() {
                break found;
            }
            tokio::task::yield_now().await;
        }
    };
    let before = timeout(PATIENCE, looking).await.unwrap();
    let end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::raw_sql(end).execute(&mut db).await.unwrap();
    assert_eq!(pair.read().await.unwrap(), FIRST, "tokens are served meanwhile");
    eventually("another feed", async || {
        let mut db = database.connection().await;
        let now: Vec<i32> = sqlx::query_scalar(feeds).fetch_all(&mut db).await.unwrap();
        now.iter().any(|pid| !before.contains(pid))
    })
    .await;
    let (app_id, open_id) = (&pair.person.app_id, &pair.person.open_id);
    assert!(pair.other.revoke_token(&ACTOR, pair.other.now(), app_id, open_id).await.unwrap());
    pair.refused_within_a_second(Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_older_generation_is_served_after_a_newer_one() {
    on_both(kept(), async |pair: Pair| {
        let pair = Arc::new(pair);
        let served = Arc::new(AtomicI64::new(0));
        let stop = CancellationToken::new();
        let mut readers = JoinSet::new();
        for _ in 0..4 {
            let (pair, served, stop) = (pair.clone(), served.clone(), stop.clone());
            readers.spawn(async move {
                while !stop.is_cancelled() {
                    let newest = served.load(Ordering::SeqCst);
                    let generation = pair.read().await.unwrap();
                    assert!(generation >= newest, "{generation} after {newest}");
                    served.fetch_max(generation, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            });
        }
        for generation in FIRST..FIRST + 20 {
            refresh(&*pair.other_store, &pair.person, generation).await;
        }
        eventually("the newest is served", async || served.load(Ordering::SeqCst) == FIRST + 20).await;
        stop.cancel();
        while let Some(reader) = readers.join_next().await {
            reader.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn refreshed_token_is_served_while_its_pair_is_on_the_way_to_the_store() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.clock.advance(Duration::from_secs(7200 - 300));
    // The store takes the lease and refuses the pair, which goes to the bus.
    fixture.sql("create function refuse() returns trigger language plpgsql as $$ begin raise exception 'full' using errcode = '53100'; end $$;
                 create trigger refuse before update of access_token_sealed on access_tokens for each row execute function refuse()").await;
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2, "the store has generation 1");
    fixture.set_status("suspended").await;
    assert!(fixture.served(&person, 60).await.is_err(), "what the store refuses is refused");
    fixture.set_status("active").await;
    fixture.sql("drop trigger refuse on access_tokens; update access_tokens set generation = 3").await;
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 3);
    let owner = Uuid::from_u128(1);
    let claim = fixture.parts.store.claim_refresh(&fixture.app_id(), &person, owner, SECOND).await.unwrap();
    assert!(!matches!(claim, RefreshClaim::NotRefreshable));
}
