//! Looking people up: who left is not served, who comes back is, and nothing else suspends anyone.

use std::time::Duration;

use chrono_tz::Tz;
use larkauth_auth::{AuthError, Context, Policy, UserSyncPolicy, jobs::Schedule};
use larkauth_contracts::message::{Envelope, UserStateChanged};
use larkauth_lark_sim::{Effect, Endpoint, Fault, SimConfig, UserStatus};
use larkauth_models::{OpenId, StoredToken, SuspensionReason, TokenKind, TokenStatus, UserState};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, APP, Fixture, Setup, policy, running};

const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// The nightly pass as in the settings, without pauses.
fn syncing() -> Policy {
    let schedule = Schedule::Cron(Box::new("0 2 * * *".parse().unwrap()), Tz::Asia__Shanghai);
    let user_sync = UserSyncPolicy {
        enabled: true,
        schedule,
        begin_window: A_DAY,
        pause: Duration::ZERO,
        ..UserSyncPolicy::default()
    };
    Policy { user_sync, ..policy(100) }
}

async fn fixture() -> Fixture {
    Fixture::with(Setup { policy: syncing(), ..Setup::default() }).await
}

impl Fixture {
    async fn token_of(&self, person: &OpenId) -> StoredToken {
        self.parts.store.token(&self.app_id(), person, TokenKind::User).await.unwrap().unwrap()
    }

    async fn status_of(&self, person: &OpenId) -> TokenStatus {
        self.token_of(person).await.status
    }

    async fn reason_of(&self, person: &OpenId) -> Option<SuspensionReason> {
        let found = self.parts.store.suspended(&self.app_id(), std::slice::from_ref(person)).await.unwrap();
        found.into_iter().next().map(|(_, reason)| reason)
    }

    async fn sync(&self) -> u64 {
        self.context.sync_people(&ACTOR, self.context.now(), &running()).await.unwrap()
    }

    /// The next night.
    async fn next_sync(&self) -> u64 {
        self.clock.advance(A_DAY);
        self.sync().await
    }

    async fn refresh_due(&self) -> u64 {
        self.context.refresh_due_tokens(&ACTOR, self.context.now(), &running()).await.unwrap()
    }

    /// Announces, and takes what was announced: the routing key and the message of each.
    async fn announced(&self) -> Vec<(String, Envelope<UserStateChanged>)> {
        self.context.announce_people(&ACTOR, self.context.now(), &running()).await.unwrap();
        let offers = std::mem::take(&mut *self.bus.offered.lock().unwrap());
        let decode = |body: &[u8]| Envelope::<UserStateChanged>::decode(body).unwrap();
        offers.into_iter().map(|offer| (offer.routing_key, decode(&offer.body))).collect()
    }

    fn batches(&self) -> u64 {
        self.sim.stats().calls(Endpoint::ContactBatch)
    }

    fn answers_contacts(&self, effect: Effect) {
        self.sim.faults().clear();
        self.sim.faults().push(Fault::at(Endpoint::ContactBatch, effect).until_cleared());
    }

    async fn records(&self, action: &str) -> i64 {
        let mut connection = self.database.connection().await;
        let count = "select count(*) from audit_log where action = $1 and outcome = 'ok'";
        sqlx::query_scalar(count).bind(action).fetch_one(&mut connection).await.unwrap()
    }
}

#[tokio::test]
async fn sync_people_who_left_are_not_served_until_they_come_back() {
    let fixture = fixture().await;
    let people = [fixture.authorized(0).await, fixture.authorized(1).await, fixture.authorized(2).await];
    let [frozen, resigned, here] = &people;
    fixture.sim.set_status(frozen.as_str(), UserStatus::Frozen).unwrap();
    fixture.sim.set_status(resigned.as_str(), UserStatus::Resigned).unwrap();
    assert_eq!(fixture.sync().await, 3);
    assert_eq!(fixture.reason_of(frozen).await, Some(SuspensionReason::Frozen));
    assert_eq!(fixture.reason_of(resigned).await, Some(SuspensionReason::Resigned));
    for person in [frozen, resigned] {
        assert!(matches!(fixture.served(person, 0).await, Err(AuthError::AuthenticationRequired)));
    }
    assert!(fixture.served(here, 0).await.is_ok());
    fixture.clock.advance(Duration::from_secs(7000));
    let refreshed = fixture.sim.stats().calls(Endpoint::TokenRefresh);
    assert_eq!(fixture.refresh_due().await, 1, "only who is here is refreshed");
    assert_eq!(fixture.sim.stats().calls(Endpoint::TokenRefresh), refreshed + 1);

    let told = fixture.announced().await;
    assert_eq!(told.len(), 2);
    for (key, message) in &told {
        let is_frozen = message.data.open_id == *frozen;
        let reason = if is_frozen { SuspensionReason::Frozen } else { SuspensionReason::Resigned };
        assert_eq!((key.as_str(), message.data.state), ("user.suspended", UserState::Suspended));
        assert_eq!(message.data.reason, Some(reason));
        assert!(!message.id.as_str().contains(message.data.open_id.as_str()));
    }
    assert!(fixture.announced().await.is_empty(), "once");
    let metrics = fixture.parts.metrics.render();
    assert!(
        metrics.contains(&format!(r#"user_suspended_total{{app_id="{APP}",reason="frozen"}} 1"#)),
        "{metrics}"
    );
    fixture.context.update_gauges(fixture.context.now()).await.unwrap();
    assert!(
        fixture.parts.metrics.render().contains(&format!(r#"token_suspended_count{{app_id="{APP}"}} 2"#))
    );

    fixture.sim.set_status(frozen.as_str(), UserStatus::Active).unwrap();
    fixture.sim.set_status(resigned.as_str(), UserStatus::Active).unwrap();
    fixture.next_sync().await;
    for person in [frozen, resigned] {
        assert_eq!(fixture.status_of(person).await, TokenStatus::Active);
    }
    fixture.refresh_due().await;
    assert!(fixture.served(frozen, 60).await.is_ok(), "with a token that was refreshed at once");
    let told = fixture.announced().await;
    assert!(told.iter().all(|(key, told)| key == "user.restored" && told.data.reason.is_none()), "{told:?}");
    assert_eq!(told.len(), 2);
    assert_eq!((fixture.records("person.suspend").await, fixture.records("person.restore").await), (2, 2));
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn sync_people_once_a_night_in_one_process() {
    let fixture = fixture().await;
    fixture.authorized(0).await;
    let other = Context::new(fixture.parts.clone());
    let (now, running, actor) = (fixture.context.now(), running(), ACTOR);
    let both = tokio::join!(
        fixture.context.sync_people(&actor, now, &running),
        other.sync_people(&actor, now, &running)
    );
    assert!(both.0.unwrap() + both.1.unwrap() >= 1);
    let calls = fixture.batches();
    for _ in 0..20 {
        fixture.clock.advance(Duration::from_secs(60));
        assert_eq!(fixture.sync().await, 0, "the pass has ended");
    }
    assert_eq!(fixture.batches(), calls);
    assert_eq!(fixture.next_sync().await, 1);
    let off = Policy { user_sync: UserSyncPolicy { enabled: false, ..syncing().user_sync }, ..policy(100) };
    let mut parts = fixture.parts.clone();
    parts.policy = off;
    fixture.clock.advance(A_DAY);
    assert_eq!(Context::new(parts).sync_people(&ACTOR, fixture.context.now(), &running).await.unwrap(), 0);
}

#[tokio::test]
async fn sync_people_after_a_clock_that_was_ahead_goes_on_the_next_night() {
    let fixture = fixture().await;
    fixture.authorized(0).await;
    assert_eq!(fixture.sync().await, 1);
    // As if the pass had been by a clock ten days ahead.
    let ahead = "update job_ticks set tick_at = tick_at + interval '10 days';
                 update user_profiles set synced_at = synced_at + interval '10 days'";
    fixture.sql(ahead).await;
    for _ in 0..2 {
        assert_eq!(fixture.next_sync().await, 1);
        assert_eq!(fixture.sync().await, 0, "the pass has ended");
    }
}

#[tokio::test]
async fn sync_people_after_a_stop_goes_on_where_it_was() {
    let setup = Setup { sim: SimConfig::default().with_users(3), policy: syncing(), ..Setup::default() };
    let fixture = Fixture::with(setup).await;
    fixture.authorized(0).await;
    fixture
        .sql("insert into user_profiles (app_id, open_id, updated_at)
              select 'cli_0123456789abcdef', 'ou_' || lpad(n::text, 32, '0'), now() from generate_series(1, 249) n")
        .await;
    // The third call fails, as if the process had been killed in it; the next run is another process's.
    fixture.sim.faults().push(Fault::at(Endpoint::ContactBatch, Effect::Latency(0)).times(2));
    fixture.sim.faults().push(Fault::at(Endpoint::ContactBatch, Effect::Cut).until_cleared());
    assert_eq!(fixture.sync().await, 100);
    fixture.sim.faults().clear();
    let before = fixture.batches();
    let stopping = CancellationToken::new();
    stopping.cancel();
    assert_eq!(fixture.context.sync_people(&ACTOR, fixture.context.now(), &stopping).await.unwrap(), 0);
    let other = Context::new(fixture.parts.clone());
    assert_eq!(other.sync_people(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 150);
    assert_eq!(fixture.batches() - before, 3, "50 ids in a call, and no person twice");
    assert_eq!(fixture.sync().await, 0);
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn sync_people_with_unclear_answers_suspends_no_one() {
    let fixture = fixture().await;
    let people = [fixture.authorized(0).await, fixture.authorized(1).await, fixture.authorized(2).await];
    for person in &people {
        fixture.sim.set_status(person.as_str(), UserStatus::Frozen).unwrap();
    }
    let nothing = |data| Effect::Reshaped { status: 200, merge: json!({ "data": data }) };
    let status = json!({ "is_frozen": true, "is_resigned": true });
    let stranger = json!({ "items": [{ "open_id": "ou_stranger", "status": status }] });
    for (what, effect) in [
        ("no permission", Effect::Answer { status: 400, code: 99_991_672 }),
        ("rate limit", Effect::TooManyRequests(1)),
        ("garbage", Effect::MalformedBody),
        ("lark is down", Effect::Answer { status: 503, code: 1_500 }),
        ("an unknown code", Effect::Answer { status: 200, code: 123_456 }),
        ("no items", nothing(json!(null))),
        ("another person", nothing(stranger)),
        ("no state", nothing(json!({ "items": [{ "open_id": people[0], "name": "x" }] }))),
        (
            "a state that is no object",
            nothing(json!({ "items": [{ "open_id": people[0], "status": "frozen" }] })),
        ),
    ] {
        fixture.answers_contacts(effect);
        fixture.next_sync().await;
        for person in &people {
            assert_eq!(fixture.reason_of(person).await, None, "{what}");
        }
    }
    assert!(fixture.announced().await.is_empty());
    fixture.sim.faults().clear();
    fixture.next_sync().await;
    assert_eq!(fixture.reason_of(&people[0]).await, Some(SuspensionReason::Frozen), "the check works");
}

#[tokio::test]
async fn sync_people_without_permission_tries_once_a_night() {
    let fixture = fixture().await;
    fixture.authorized(0).await;
    fixture.answers_contacts(Effect::Answer { status: 400, code: 99_991_672 });
    for night in 1..=2 {
        for _ in 0..5 {
            assert_eq!(fixture.sync().await, 0);
        }
        assert_eq!(fixture.batches(), night);
        let ended = format!(r#"user_sync_pass_total{{app_id="{APP}",outcome="no_permission"}} {night}"#);
        assert!(fixture.parts.metrics.render().contains(&ended));
        fixture.clock.advance(A_DAY);
    }
    let app = fixture.parts.store.application(&fixture.app_id()).await.unwrap().unwrap();
    assert!(app.frozen_since.is_none(), "invitations go on");
}

#[tokio::test]
async fn sync_people_half_outside_of_contact_scope_looks_at_the_others() {
    let fixture = fixture().await;
    let (outside, inside) = (fixture.authorized(0).await, fixture.authorized(1).await);
    fixture.sim.set_status(outside.as_str(), UserStatus::OutOfRange).unwrap();
    fixture.sim.set_status(inside.as_str(), UserStatus::Exited).unwrap();
    assert_eq!(fixture.sync().await, 2);
    assert_eq!(fixture.reason_of(&outside).await, None, "out of the contact scope is not out of the company");
    assert_eq!(fixture.reason_of(&inside).await, Some(SuspensionReason::Exited));
    let metrics = fixture.parts.metrics.render();
    assert!(
        metrics.contains(&format!(r#"user_sync_total{{app_id="{APP}",outcome="missing"}} 1"#)),
        "{metrics}"
    );
}

#[tokio::test]
async fn sync_people_with_an_id_that_lark_refuses_looks_at_the_others() {
    let fixture = fixture().await;
    let person = fixture.authorized(0).await;
    fixture.sim.set_status(person.as_str(), UserStatus::Frozen).unwrap();
    // An id of another application makes Lark refuse a batch.
    let other = larkauth_lark_sim::SimApp::new("cli_fedcba9876543210", "another-secret-0123456789");
    fixture.sim.put_app(other).unwrap();
    let foreign = fixture.sim.open_id("cli_fedcba9876543210", &fixture.sim.users()[1]);
    let mut connection = fixture.database.connection().await;
    let insert = "insert into user_profiles (app_id, open_id, updated_at) values ($1, $2, now())";
    sqlx::query(insert).bind(APP).bind(&foreign).execute(&mut connection).await.unwrap();
    assert_eq!(fixture.sync().await, 2);
    assert_eq!(fixture.reason_of(&person).await, Some(SuspensionReason::Frozen));
    assert_eq!(fixture.sync().await, 0, "the pass has ended all the same");
}

#[tokio::test]
async fn sync_people_renews_profiles_and_keeps_what_lark_does_not_say() {
    let fixture = fixture().await;
    let person = fixture.authorized(0).await;
    let old = fixture.parts.store.profile(&fixture.app_id(), &person).await.unwrap().unwrap();
    fixture.sim.remove_user(person.as_str()).unwrap();
    let mut user = larkauth_lark_sim::SimUser::numbered(1).without_contact_data();
    user.open_id = person.to_string();
    user.name = "新名字".to_owned();
    fixture.sim.add_user(user);
    fixture.next_sync().await;
    let new = fixture.parts.store.profile(&fixture.app_id(), &person).await.unwrap().unwrap();
    assert_eq!(new.name.as_deref(), Some("新名字"));
    assert!(
        new.user_id.is_some() && new.user_id == old.user_id,
        "a person without user id keeps the known one"
    );
    assert!(new.email.is_some() && new.mobile.is_some());
}

#[tokio::test]
async fn refused_person_comes_back_when_lark_gives_a_pair() {
    let fixture = fixture().await;
    let (refused, dead) = (fixture.authorized(0).await, fixture.authorized(1).await);
    // The application is no longer available to them: contacts say that their accounts are in use.
    fixture.clock.advance(Duration::from_secs(7000));
    let unavailable = Effect::Answer { status: 400, code: 20_010 };
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, unavailable.clone()).until_cleared());
    fixture.refresh_due().await;
    for person in [&refused, &dead] {
        assert_eq!(fixture.reason_of(person).await, Some(SuspensionReason::Refused));
    }
    assert_eq!(fixture.announced().await.len(), 2);
    for _ in 0..2 {
        fixture.next_sync().await;
        assert_eq!(
            fixture.reason_of(&refused).await,
            Some(SuspensionReason::Refused),
            "an account in use says too little"
        );
        assert!(fixture.announced().await.is_empty(), "no event comes and goes each night");
    }
    fixture.sim.faults().clear();
    let used_up = Effect::Answer { status: 400, code: 20_037 };
    let first_only = Fault::at(Endpoint::TokenRefresh, Effect::Latency(0)).times(1);
    fixture.sim.faults().push(first_only);
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, used_up).until_cleared());
    fixture.next_sync().await;
    let mut states =
        [fixture.status_of(&refused).await, fixture.status_of(&dead).await].map(TokenStatus::as_str);
    states.sort_unstable();
    assert_eq!(states, ["active", "reauthorization_required"]);
    let told = fixture.announced().await;
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(key, _)| key == "user.restored"), "{told:?}");
}

#[tokio::test]
async fn refused_person_whose_account_is_frozen_comes_back_with_it() {
    let fixture = fixture().await;
    let person = fixture.authorized(0).await;
    fixture.sim.set_status(person.as_str(), UserStatus::Frozen).unwrap();
    fixture.clock.advance(Duration::from_secs(7000));
    fixture.refresh_due().await;
    assert_eq!(fixture.reason_of(&person).await, Some(SuspensionReason::Refused));
    assert_eq!(fixture.announced().await.len(), 1);
    fixture.next_sync().await;
    assert_eq!(fixture.reason_of(&person).await, Some(SuspensionReason::Frozen), "the reason becomes known");
    assert!(fixture.announced().await.is_empty(), "that is no second suspension");
    fixture.sim.set_status(person.as_str(), UserStatus::Active).unwrap();
    fixture.next_sync().await;
    assert_eq!(fixture.status_of(&person).await, TokenStatus::Active);
    fixture.refresh_due().await;
    assert!(fixture.served(&person, 60).await.is_ok());
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn refresh_looks_at_its_person_once_a_day() {
    let fixture = fixture().await;
    let person = fixture.authorized(0).await;
    // The consent itself asks for user info.
    let looks = |fixture: &Fixture| fixture.sim.stats().calls(Endpoint::UserInfo) - 1;
    for (refresh, expected) in [(1, 1), (2, 1), (3, 1)] {
        fixture.clock.advance(Duration::from_secs(7100));
        assert!(fixture.served(&person, 0).await.is_ok());
        fixture.context.finish_refreshes().await;
        assert_eq!(looks(&fixture), expected, "refresh {refresh}");
    }
    // The refresh goes through, and the account is frozen right after.
    fixture.clock.advance(A_DAY);
    fixture.sim.faults().push(Fault::at(Endpoint::UserInfo, Effect::Answer { status: 200, code: 20_022 }));
    assert!(fixture.served(&person, 0).await.is_ok(), "the look delays no one");
    fixture.context.finish_refreshes().await;
    assert_eq!(fixture.reason_of(&person).await, Some(SuspensionReason::Frozen));
    // A look that fails says nothing.
    fixture.authorized(0).await;
    fixture.clock.advance(A_DAY * 2);
    fixture.sim.faults().push(Fault::at(Endpoint::UserInfo, Effect::MalformedBody).until_cleared());
    assert!(fixture.served(&person, 0).await.is_ok());
    fixture.context.finish_refreshes().await;
    assert_eq!(fixture.reason_of(&person).await, None);
}

#[tokio::test]
async fn announcement_while_the_bus_is_down_is_made_later_with_the_same_id() {
    let fixture = fixture().await;
    let person = fixture.authorized(0).await;
    fixture.sim.set_status(person.as_str(), UserStatus::Frozen).unwrap();
    fixture.sync().await;
    fixture.bus.go_down();
    assert!(fixture.context.announce_people(&ACTOR, fixture.context.now(), &running()).await.is_err());
    fixture.bus.come_back();
    let first = fixture.announced().await;
    // The process stopped between the broker's confirm and the record of it.
    fixture.sql("update access_tokens set status_announcements = 0").await;
    let second = fixture.announced().await;
    assert_eq!((first.len(), &first[0].1.id), (1, &second[0].1.id));
    fixture.sim.set_status(person.as_str(), UserStatus::Active).unwrap();
    fixture.next_sync().await;
    let restored = fixture.announced().await;
    assert_ne!(restored[0].1.id, first[0].1.id);
    assert_eq!(fixture.parts.store.unannounced_people(None, 9).await.unwrap(), []);
}
