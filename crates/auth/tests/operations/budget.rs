//! One budget of calls for all processes: two of them on one database, against a Lark that counts.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all, stream};
use larkauth_auth::{
    AppRegistry, Context, ContextParts, EscrowSpool, LarkSettings, Policy, SharedRateLimiter,
};
use larkauth_lark::{Endpoints, HttpTimeouts, RateLimiter, api::EndpointClass, http_client};
use larkauth_lark_sim::{Effect, Endpoint, Fault, Lifetimes, Sim, SimApp, SimConfig, SimHandle};
use larkauth_models::{
    AppId, Application, AuthMethod, Brand, CallRate, CardOptions, Clock, ConsentSecrets, Entropy, Lane,
    OpenId, OsEntropy, Person, RefreshPolicy, SecretString, SessionId, SystemClock, TokenApi, TokenPair,
    UserProfile,
};
use larkauth_net::Network;
use larkauth_storage::{
    Completion, InvitationLimit, NewSession, Store,
    conformance::Backend,
    testing::{act, test_cipher},
};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_storage_sqlite::testing::TestSqlite;
use larkauth_telemetry::Metrics;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, Recorder, SECRET};

const PROCESSES: usize = 2;
const REDIRECT: &str = "http://127.0.0.1:8080/oauth/callback";
const SCOPE: &str = "offline_access";
/// Life of access tokens: so short that a few people use the whole limit.
const ACCESS: Duration = Duration::from_secs(6);
/// People of one application who do so: each is refreshed after 4.6 s.
const PEOPLE: u32 = 120;

/// Processes on one database, whose clock is the real one.
struct World {
    processes: Vec<Process>,
    apps: Vec<AppId>,
    sim: SimHandle,
    _spool: TempDir,
    _database: Box<dyn Backend>,
}

struct Process {
    context: Context,
    store: Arc<dyn Store>,
    limiter: Arc<SharedRateLimiter>,
}

impl World {
    async fn start(database: impl Backend, apps: u32, people: u32) -> Self {
        let apps: Vec<_> = (0..apps).map(|n| AppId::new(format!("cli_{n:016}")).unwrap()).collect();
        let mut config = SimConfig::default().with_users(people);
        config.lifetimes = Lifetimes { access: ACCESS, ..Lifetimes::default() };
        for app in &apps {
            config = config.with_app(SimApp::new(app.as_str(), SECRET).with_redirect_uri(REDIRECT));
        }
        let sim = Sim::start(config).await.unwrap();
        let spool = tempfile::tempdir().unwrap();
        let mut processes = Vec::new();
        for number in 0..PROCESSES {
            let store = database.open(test_cipher()).await;
            processes.push(process(&sim, store, spool.path().join(number.to_string())));
        }
        let world = Self { processes, apps, sim, _spool: spool, _database: Box::new(database) };
        for app_id in &world.apps {
            let application = application(app_id);
            world.store().put_application(&application, &act(SystemClock.now())).await.unwrap();
        }
        let seeds: Vec<_> = world
            .apps
            .iter()
            .flat_map(|app| world.sim.users().into_iter().map(move |user| (app.clone(), user)))
            .collect();
        stream::iter(seeds)
            .for_each_concurrent(8, |(app, user)| {
                let open_id = world.sim.open_id(app.as_str(), &user);
                let world = &world;
                async move { world.seed(&app, &open_id).await }
            })
            .await;
        world
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.processes[0].store
    }

    /// Stores a token that is due now.
    async fn seed(&self, app_id: &AppId, open_id: &str) {
        let (access_token, refresh_token) = self.sim.issue_tokens(app_id.as_str(), open_id, SCOPE).unwrap();
        let (store, now, open_id) = (self.store(), SystemClock.now(), OpenId::new(open_id).unwrap());
        let new = NewSession {
            id: SessionId(OsEntropy.uuid(&SystemClock)),
            app_id: app_id.clone(),
            person: Person { open_id: Some(open_id.clone()), user_id: None },
            auth_method: AuthMethod::Oauth,
            scopes: vec![SCOPE.to_owned()],
            card: CardOptions::default(),
            consent: ConsentSecrets {
                state: OsEntropy.secret_token(),
                pkce_verifier: OsEntropy.secret_token(),
            },
            created_at: now,
            expires_at: now + Duration::from_secs(600),
            takes_card_of: None,
            audit: act(now),
        };
        let limit = InvitationLimit { max: 100, window: Duration::from_secs(60) };
        store.create_session(&new, limit).await.unwrap();
        let claim = OsEntropy.uuid(&SystemClock);
        store.claim_exchange(new.id, None, claim, Duration::from_secs(60)).await.unwrap();
        let completion = Completion {
            session_id: new.id,
            claim,
            pair: TokenPair {
                access_token,
                access_expires_at: now + ACCESS,
                refresh_token,
                refresh_expires_at: Some(now + Lifetimes::default().refresh),
                scopes: vec![SCOPE.to_owned()],
            },
            profile: UserProfile {
                open_id,
                union_id: None,
                user_id: None,
                name: None,
                en_name: None,
                avatar_url: None,
                email: None,
                mobile: None,
                tenant_key: None,
            },
            next_attempt_at: Some(now),
            now,
            audit: act(now),
        };
        assert!(store.complete_session(&completion).await.unwrap());
    }

    /// Every process refreshes what is due, again and again, as the job does, until the other work is done. Returns the
    /// result of that work, and the time that it took.
    async fn refresh_during<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        let (stopping, started) = (CancellationToken::new(), Instant::now());
        let jobs = join_all(self.processes.iter().map(|process| {
            let stopping = &stopping;
            async move {
                while !stopping.is_cancelled() {
                    let now = process.context.now();
                    process.context.refresh_due_tokens(&ACTOR, now, stopping).await.unwrap();
                }
            }
        }));
        let work = async {
            let result = work.await;
            stopping.cancel();
            (result, started.elapsed())
        };
        tokio::join!(work, jobs).0
    }

    fn refreshes(&self) -> u64 {
        self.sim.stats().calls(Endpoint::TokenRefresh)
    }

    fn assert_limits_held(&self) {
        assert_eq!(self.sim.violations(), []);
        for app in &self.apps {
            let peak = self.sim.token_endpoint_peak(app.as_str());
            assert!(peak.in_a_second <= 50 && peak.in_a_minute <= 1000, "{peak:?}");
        }
    }
}

fn process(sim: &Sim, store: Arc<dyn Store>, spool: std::path::PathBuf) -> Process {
    let metrics = Metrics::new().unwrap();
    let limiter = Arc::new(SharedRateLimiter::new(store.clone(), metrics.clone()));
    let hosts = Endpoints {
        base_url: sim.base_url().parse().unwrap(),
        accounts_url: sim.accounts_url().parse().unwrap(),
    };
    let lark = LarkSettings {
        http: http_client(&HttpTimeouts::default(), &Network::default()).unwrap(),
        network: Network::default(),
        feishu: hosts.clone(),
        lark: hosts,
        rate_limiter: limiter.clone(),
    };
    let mut policy = Policy::default();
    policy.refresh.policy = RefreshPolicy::Eager;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let apps = AppRegistry::new(store.clone(), lark, clock.clone(), metrics.clone(), &policy);
    let context = Context::new(ContextParts {
        store: store.clone(),
        bus: Arc::new(Recorder::default()),
        apps: Arc::new(apps),
        cipher: test_cipher(),
        spool: EscrowSpool::new(spool),
        clock,
        entropy: Arc::new(OsEntropy),
        metrics,
        policy,
    });
    Process { context, store, limiter }
}

fn application(app_id: &AppId) -> Application {
    Application {
        app_id: app_id.clone(),
        app_secret: SecretString::from(SECRET),
        verification_token: None,
        encrypt_key: None,
        brand: Brand::Feishu,
        token_api: TokenApi::V2,
        redirect_uri: REDIRECT.parse().unwrap(),
        default_scopes: vec![SCOPE.to_owned()],
        enabled: true,
        frozen_since: None,
        frozen_reason: None,
    }
}

/// Runs until so many seconds have passed and returns the calls of each application by then.
async fn rate_is_used_and_not_exceeded(world: &World, seconds: u64, at_least: f64) {
    let ((), took) = world.refresh_during(sleep(Duration::from_secs(seconds))).await;
    world.assert_limits_held();
    let (rate, apps) = (CallRate::LARK, world.apps.len() as f64);
    let sustained = took.as_secs_f64() / rate.interval.as_secs_f64();
    let calls = world.refreshes() as f64 / apps;
    assert!(calls <= sustained + f64::from(rate.burst), "{calls} calls in {took:?}");
    assert!(calls >= at_least * sustained, "{calls} calls in {took:?}, {sustained} would be all");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_postgres_share_one_budget() {
    let world = World::start(TestDatabase::create().await, 1, PEOPLE).await;
    rate_is_used_and_not_exceeded(&world, 6, 0.85).await;
    let metrics = world.processes.iter().map(|process| process.context.metrics().render());
    assert!(metrics.into_iter().all(|text| text.contains(r#"lane="background",outcome="granted""#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_sqlite_file_share_one_budget() {
    let world = World::start(TestSqlite::create().await, 1, PEOPLE).await;
    rate_is_used_and_not_exceeded(&world, 6, 0.85).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and a core: scripts/test --full"]
async fn fifty_applications_use_98_percent_of_their_limits_each() {
    let world = World::start(TestDatabase::create().await, 50, PEOPLE).await;
    rate_is_used_and_not_exceeded(&world, 70, 0.98 * 1000.0 / CallRate::LARK.calls_per_minute()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_served_while_the_background_uses_the_whole_rate() {
    let world = World::start(TestDatabase::create().await, 1, PEOPLE).await;
    let people = async {
        let mut waits = Vec::new();
        for n in 0..8 {
            // People come to both processes, and now and then.
            sleep(Duration::from_millis(400)).await;
            let (limiter, started) = (&world.processes[n % PROCESSES].limiter, Instant::now());
            let deadline = started + Duration::from_secs(5);
            limiter.acquire(&world.apps[0], EndpointClass::Token, Lane::People, deadline).await.unwrap();
            waits.push(started.elapsed());
        }
        waits
    };
    let (mut waits, took) = world.refresh_during(people).await;
    waits.sort();
    // The background alone is six calls ahead. What is left is the time of the database on a busy machine.
    assert!(waits[waits.len() / 2] < 4 * CallRate::LARK.interval, "most do not wait: {waits:?}");
    let busy = world.refreshes() as f64 * CallRate::LARK.interval.as_secs_f64();
    assert!(busy >= 0.7 * took.as_secs_f64(), "{busy} s of {took:?}");
    world.assert_limits_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_with_reset_holds_every_process_back() {
    let world = World::start(TestDatabase::create().await, 1, PEOPLE).await;
    let observed = async {
        let busy = |sim: &Sim| (sim.stats().calls(Endpoint::TokenRefresh) > 10).then_some(());
        world.sim.wait_until(Duration::from_secs(10), busy).await.unwrap();
        world.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::TooManyRequests(4)));
        let refused = |sim: &Sim| sim.faults().list().is_empty().then_some(());
        world.sim.wait_until(Duration::from_secs(10), refused).await.unwrap();
        let held_at = Instant::now();
        // What was reserved by then is still made: at most half a second of calls.
        sleep(Duration::from_secs(1)).await;
        let calls = world.refreshes();
        let (app, limiter) = (&world.apps[0], &world.processes[1].limiter);
        let deadline = Instant::now() + Duration::from_millis(700);
        let person = limiter.acquire(app, EndpointClass::Token, Lane::People, deadline).await;
        while held_at.elapsed() < Duration::from_millis(3900) {
            assert_eq!(world.refreshes(), calls, "after {:?}", held_at.elapsed());
            sleep(Duration::from_millis(20)).await;
        }
        let goes_on = |sim: &Sim| (sim.stats().calls(Endpoint::TokenRefresh) > calls).then_some(());
        world.sim.wait_until(Duration::from_secs(10), goes_on).await.unwrap();
        person
    };
    let (person, _) = world.refresh_during(observed).await;
    let wait = person.unwrap_err().retry_after;
    assert!(
        wait > Duration::from_secs(1) && wait < Duration::from_secs(4),
        "people are held back, too: {wait:?}"
    );
    world.assert_limits_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn application_without_budget_does_not_delay_another() {
    let world = World::start(TestDatabase::create().await, 2, 20).await;
    let (process, held, free) = (&world.processes[0], &world.apps[0], &world.apps[1]);
    process.limiter.hold(held, EndpointClass::Token, Duration::from_secs(600)).await;
    let (actor, stopping) = (ACTOR, CancellationToken::new());
    let refreshing = process.context.refresh_due_tokens(&actor, process.context.now(), &stopping);
    let refreshed = timeout(Duration::from_secs(20), refreshing).await.unwrap().unwrap();
    assert!(refreshed >= 20, "all of the one: {refreshed}");
    assert_eq!(world.sim.token_endpoint_peak(held.as_str()).in_a_minute, 0, "none of the other");
    assert!(world.sim.token_endpoint_peak(free.as_str()).in_a_minute >= 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn store_that_is_down_leaves_each_process_its_own_share() {
    let world = World::start(TestDatabase::create().await, 1, 1).await;
    let process = &world.processes[0];
    process.store.close().await;
    let (limiter, app, class) = (&process.limiter, &world.apps[0], EndpointClass::MessageSend);
    let started = Instant::now();
    let deadline = started + Duration::from_secs(2);
    let acquired = join_all((0..100).map(|_| limiter.acquire(app, class, Lane::People, deadline))).await;
    let granted = acquired.iter().filter(|result| result.is_ok()).count();
    // A fifth of the limit: two at once, and one every 305 ms.
    assert!((2..=10).contains(&granted), "{granted}");
    assert!(limiter.acquire(app, class, Lane::Background, started).await.is_err());
    assert!(limiter.reserve(app, class, 8).await.is_err(), "people come first");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
