//! Clocks that are wrong, and that jump while a token is refreshed: nothing is refreshed twice, lost, served past its end or
//! ended.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use larkauth_auth::{AppRegistry, AuthError, Context, ContextParts, DatabaseClock};
use larkauth_lark_sim::{Effect, Endpoint, Fault};
use larkauth_models::{Clock, OpenId, StoredToken, SystemClock, TokenStatus};
use larkauth_storage::Store;
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_storage_sqlite::testing::TestSqlite;
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, Fixture, Setup, SkewedClock};

const TWO_HOURS: TimeDelta = TimeDelta::hours(2);
/// More than the tests take, and less than any jump.
const TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// Another process on the database of a fixture, on a machine whose clock can jump.
struct Machine {
    context: Context,
    clock: Arc<SkewedClock>,
}

impl Fixture {
    /// The process has asked the database for its time, which is that of the fixture.
    fn machine(&self) -> Machine {
        let clock = Arc::new(SkewedClock::new(self.clock.clone(), TimeDelta::zero()));
        let context = self.process_at(Arc::new(DatabaseClock::new(clock.clone())));
        let machine = Machine { context, clock };
        self.tell_time(&machine);
        machine
    }

    /// Another process, by a clock.
    fn process_at(&self, clock: Arc<dyn Clock>) -> Context {
        let parts = self.parts.clone();
        let (lark, policy) = (parts.apps.lark().clone(), parts.policy.clone());
        let apps = AppRegistry::new(parts.store.clone(), lark, clock.clone(), parts.metrics.clone(), &policy);
        Context::new(ContextParts { apps: Arc::new(apps), clock, ..parts })
    }

    fn tell_time(&self, machine: &Machine) {
        machine.context.clock().correct(self.clock.now());
    }

    /// Reads a token by one process. What is served has to be valid, by the time that counts and by Lark's.
    async fn read(&self, context: &Context, person: &OpenId) -> Result<i64, AuthError> {
        let minute = TimeDelta::minutes(1);
        let app_id = self.app_id();
        let token = context.valid_token(&ACTOR, context.now(), &app_id, person, minute, &[]).await?;
        assert!(token.pair.access_expires_at > self.clock.now(), "served past its end");
        let client = self.parts.apps.get(&app_id).await.unwrap().client.clone();
        client.user_info(token.pair.access_token.readable().unwrap()).await.unwrap();
        Ok(token.generation)
    }

    async fn run_due_of(&self, context: &Context) -> u64 {
        context.refresh_due_tokens(&ACTOR, context.now(), &CancellationToken::new()).await.unwrap()
    }

    fn assert_ends_in_two_hours(&self, token: &StoredToken) {
        let differs = token.pair.access_expires_at - self.clock.now() - TWO_HOURS;
        assert!(differs.abs() < TOLERANCE, "{differs}");
    }
}

#[tokio::test]
async fn machines_clock_that_jumps_during_a_refresh_changes_nothing() {
    for jump in [TimeDelta::hours(1), TimeDelta::hours(-1), TimeDelta::days(400), TimeDelta::days(-400)] {
        let fixture = Fixture::new().await;
        let person = fixture.expired(0).await;
        let machine = fixture.machine();
        fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LateAnswer(300)));
        let while_lark_answers = async {
            let sent =
                |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenRefresh) > 0).then_some(());
            fixture.sim.wait_until(Duration::from_secs(10), sent).await.unwrap();
            machine.clock.jump(jump);
            assert_eq!(fixture.run_due_of(&machine.context).await, 0, "the lease is held");
            tokio::join!(fixture.read(&machine.context, &person), fixture.read(&fixture.context, &person))
        };
        let (read, others) = tokio::join!(fixture.read(&machine.context, &person), while_lark_answers);
        assert_eq!([read, others.0, others.1].map(Result::unwrap), [2, 2, 2], "{jump}");
        assert_eq!(fixture.refreshes(), 1, "{jump}");
        let token = fixture.current(&person).await;
        assert_eq!((token.status, token.failures), (TokenStatus::Active, 0), "{jump}");
        fixture.assert_ends_in_two_hours(&token);

        // Neither process has anything to do until the token is nearly over, and then one of them.
        fixture.clock.advance(Duration::from_secs(5400));
        fixture.tell_time(&machine);
        assert_eq!(fixture.run_due_of(&machine.context).await + fixture.run_due().await, 0, "{jump}");
        assert_eq!(fixture.read(&machine.context, &person).await.unwrap(), 2, "{jump}");
        fixture.clock.advance(Duration::from_secs(1801));
        fixture.tell_time(&machine);
        assert_eq!(fixture.read(&machine.context, &person).await.unwrap(), 3, "{jump}");
        assert_eq!(fixture.read(&fixture.context, &person).await.unwrap(), 3, "{jump}");
        assert_eq!(fixture.refreshes(), 2, "{jump}");
        fixture.assert_no_violation();
    }
}

#[tokio::test]
async fn machines_clock_that_is_wrong_from_the_start_ends_no_login() {
    for ahead in [TimeDelta::days(400), TimeDelta::days(-400)] {
        let fixture = Fixture::new().await;
        let people = [fixture.authorized(0).await, fixture.authorized(1).await];
        let machine = fixture.machine();
        machine.clock.jump(ahead);
        let (context, stopping) = (&machine.context, CancellationToken::new());
        let now = context.now();
        fixture.run_due_of(context).await;
        context.reauthorize(&ACTOR, now, &stopping).await.unwrap();
        context.expire_sessions(&ACTOR, now, &stopping).await.unwrap();
        context.purge_profiles(&ACTOR, now, &stopping).await.unwrap();
        for person in &people {
            let token = fixture.current(person).await;
            assert_eq!((token.status, token.generation), (TokenStatus::Active, 1), "{ahead}");
            assert_eq!(fixture.read(context, person).await.unwrap(), 1, "{ahead}");
        }
        assert_eq!((fixture.refreshes(), fixture.sim.messages().len()), (0, 2), "no other card was sent");
        fixture.assert_no_violation();
    }
}

#[tokio::test]
async fn larks_clock_counts_only_by_what_it_says_of_a_life() {
    for ahead in [TimeDelta::days(30), TimeDelta::days(-30)] {
        let fixture = Fixture::with(Setup { lark_ahead: ahead, ..Setup::default() }).await;
        let person = fixture.authorized(0).await;
        fixture.assert_ends_in_two_hours(&fixture.current(&person).await);
        assert_eq!(fixture.read(&fixture.context, &person).await.unwrap(), 1);
        assert_eq!(fixture.run_due().await, 0);
        fixture.clock.advance(Duration::from_secs(7201));
        assert_eq!(fixture.read(&fixture.context, &person).await.unwrap(), 2);
        fixture.assert_ends_in_two_hours(&fixture.current(&person).await);
        fixture.clock.advance(Duration::from_secs(6000));
        assert_eq!(fixture.run_due().await, 1);
        assert_eq!(fixture.read(&fixture.context, &person).await.unwrap(), 3);
        assert_eq!((fixture.refreshes(), fixture.current(&person).await.status), (2, TokenStatus::Active));
        fixture.assert_no_violation();
    }
}

#[tokio::test]
async fn larks_clock_that_jumps_during_a_refresh_ends_no_login() {
    for jump in [TimeDelta::hours(3), TimeDelta::hours(-3)] {
        let fixture = Fixture::new().await;
        let person = fixture.expired(0).await;
        fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LateAnswer(300)));
        let app_id = fixture.app_id();
        let newer = async |generation| {
            let now = fixture.context.now();
            fixture.context.refresh_token(&ACTOR, now, &app_id, &person, generation).await.unwrap()
        };
        let jumping = async {
            let sent =
                |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenRefresh) > 0).then_some(());
            fixture.sim.wait_until(Duration::from_secs(10), sent).await.unwrap();
            fixture.lark_clock.jump(jump);
        };
        let (refreshed, ()) = tokio::join!(newer(Some(1)), jumping);
        assert_eq!(refreshed.generation, 2, "{jump}");
        fixture.assert_ends_in_two_hours(&fixture.current(&person).await);
        // Lark may hold the token for over: the caller says so, and gets another one, which Lark takes.
        assert_eq!(newer(Some(2)).await.generation, 3, "{jump}");
        assert_eq!(fixture.read(&fixture.context, &person).await.unwrap(), 3, "{jump}");
        let token = fixture.current(&person).await;
        assert_eq!((token.status, fixture.refreshes()), (TokenStatus::Active, 2), "{jump}");
        fixture.assert_no_violation();
    }
}

/// The lease ends early for the database: another process sends the same refresh token, which Lark has replaced already.
#[tokio::test]
async fn databases_clock_that_jumps_ahead_during_a_refresh_loses_no_pair() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    let other = fixture.machine();
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LateAnswer(500)));
    let jumping = async {
        let sent =
            |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenRefresh) > 0).then_some(());
        fixture.sim.wait_until(Duration::from_secs(10), sent).await.unwrap();
        fixture.end_leases().await;
        other
            .context
            .valid_token(&ACTOR, fixture.clock.now(), &fixture.app_id(), &person, TOLERANCE, &[])
            .await
    };
    let (read, second) = tokio::join!(fixture.read(&fixture.context, &person), jumping);
    assert_eq!(read.unwrap(), 2);
    assert!(
        matches!(&second, Err(AuthError::UpstreamUnavailable { .. })) || second.is_ok(),
        "it is told to come again, or waits for the pair: {:?}",
        second.err()
    );
    let token = fixture.current(&person).await;
    assert_eq!((token.status, token.generation, token.failures), (TokenStatus::Active, 2, 0));
    for context in [&fixture.context, &other.context] {
        assert_eq!(fixture.read(context, &person).await.unwrap(), 2);
    }
}

/// The lease lasts longer for the database than its holder lives.
#[tokio::test]
async fn databases_clock_that_jumps_back_during_a_refresh_delays_no_pair() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LateAnswer(300)));
    let jumping = async {
        let sent =
            |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenRefresh) > 0).then_some(());
        fixture.sim.wait_until(Duration::from_secs(10), sent).await.unwrap();
        fixture.sql("update access_tokens set lease_until = lease_until + interval '1 day'").await;
    };
    let (read, ()) = tokio::join!(fixture.read(&fixture.context, &person), jumping);
    assert_eq!(read.unwrap(), 2);
    fixture.clock.advance(Duration::from_secs(7201));
    assert_eq!(fixture.read(&fixture.context, &person).await.unwrap(), 3, "the lease ended with its pair");
    fixture.assert_no_violation();
}

#[tokio::test]
async fn ping_database_corrects_the_clock_of_the_process() {
    let fixture = Fixture::new().await;
    let (postgres, sqlite) = (TestDatabase::create().await, TestSqlite::create().await);
    let stores: [Arc<dyn Store>; 2] = [Arc::new(postgres.store().await), Arc::new(sqlite.store().await)];
    for store in stores {
        let clock: Arc<dyn Clock> = Arc::new(DatabaseClock::new(fixture.clock.clone()));
        let context = Context::new(ContextParts { store, clock, ..fixture.parts.clone() });
        assert_eq!(context.now(), fixture.clock.now());
        context.ping_database().await.unwrap();
        let differs = context.now() - SystemClock.now();
        assert!(differs.abs() < TimeDelta::seconds(2), "{differs}");
    }
}
