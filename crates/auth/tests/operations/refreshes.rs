//! Refreshing: once per token, kept first of all, and no login lost to what can be survived.

use std::time::Duration;

use futures::future::join_all;
use larkauth_auth::{AuthError, Context};
use larkauth_contracts::message::TokenEscrowed;
use larkauth_lark_sim::{Effect, Endpoint, Fault, UserStatus};
use larkauth_messaging::Disposition;
use larkauth_models::{OpenId, RefreshPolicy, StoredToken, TokenKind, TokenStatus};
use larkauth_storage::RefreshClaim;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::{ACTOR, Fixture};

/// Longer than the access token lives.
const TWO_HOURS: Duration = Duration::from_secs(7201);

impl Fixture {
    pub(crate) async fn current(&self, person: &OpenId) -> StoredToken {
        self.parts.store.token(&self.app_id(), person, TokenKind::User).await.unwrap().unwrap()
    }

    /// A person whose access token has expired.
    pub(crate) async fn expired(&self, n: usize) -> OpenId {
        let person = self.authorized(n).await;
        self.clock.advance(TWO_HOURS);
        person
    }

    /// A process takes the lease and dies with it.
    async fn leased_by_a_dead_holder(&self, person: &OpenId) {
        let (app_id, owner) = (self.app_id(), Uuid::from_u128(1));
        let claim = self.parts.store.claim_refresh(&app_id, person, owner, Duration::ZERO).await.unwrap();
        assert!(matches!(claim, RefreshClaim::Leased(_)));
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.sim.stats().calls(Endpoint::TokenRefresh)
    }

    pub(crate) async fn run_due(&self) -> u64 {
        self.context.refresh_due_tokens(&ACTOR, self.context.now(), &CancellationToken::new()).await.unwrap()
    }

    /// Every lease ends, as if its time had passed.
    pub(crate) async fn end_leases(&self) {
        self.sql("update access_tokens set lease_until = clock_timestamp() where lease_owner is not null")
            .await;
    }

    pub(crate) fn assert_no_violation(&self) {
        assert_eq!(self.sim.violations(), []);
    }
}

#[tokio::test]
async fn read_of_expired_token_is_refreshed() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2, "the new one is valid");
    assert_eq!(fixture.refreshes(), 1);
    // Little is left: refreshed before it expires.
    fixture.clock.advance(Duration::from_secs(7200 - 700));
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 3);
    // Not long enough for this caller.
    fixture.clock.advance(Duration::from_secs(5000));
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 3);
    assert_eq!(fixture.served(&person, 3000).await.unwrap(), 4);
    fixture.assert_no_violation();
}

#[tokio::test]
async fn read_by_many_callers_of_two_processes_refreshes_once() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::Latency(300)));
    let other = Context::new(fixture.parts.clone());
    let (app_id, actor) = (fixture.app_id(), ACTOR);
    let now = fixture.context.now();
    let callers = (0..20).map(|n| {
        let context = if n % 2 == 0 { &fixture.context } else { &other };
        context.valid_token(&actor, now, &app_id, &person, chrono::TimeDelta::minutes(1), &[])
    });
    for token in join_all(callers).await {
        assert_eq!(token.unwrap().generation, 2);
    }
    assert_eq!(fixture.refreshes(), 1);
    fixture.assert_no_violation();
}

#[tokio::test]
async fn reader_that_leaves_does_not_interrupt_refresh() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LateAnswer(300)));
    let mut readers = JoinSet::new();
    let (context, app_id, reader) = (fixture.context.clone(), fixture.app_id(), person.clone());
    readers.spawn(async move {
        let minute = chrono::TimeDelta::minutes(1);
        context.valid_token(&ACTOR, context.now(), &app_id, &reader, minute, &[]).await.map(drop)
    });
    let sent = |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenRefresh) > 0).then_some(());
    fixture.sim.wait_until(Duration::from_secs(10), sent).await.unwrap();
    readers.shutdown().await;
    fixture.context.finish_refreshes().await;
    assert_eq!(fixture.current(&person).await.generation, 2);
    fixture.assert_no_violation();
}

#[tokio::test]
async fn read_with_lark_down_serves_valid_token_and_keeps_login() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.clock.advance(Duration::from_secs(7200 - 300));
    let down = Effect::Answer { status: 503, code: 20_050 };
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, down).until_cleared());
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1);
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1);
    assert_eq!(fixture.refreshes(), 1, "the failure asks for a pause");
    fixture.clock.advance(Duration::from_secs(301));
    for _ in 0..10 {
        let failed = fixture.served(&person, 60).await.unwrap_err();
        let AuthError::UpstreamUnavailable { retry_after } = failed else { panic!("{failed}") };
        fixture.clock.advance(retry_after);
    }
    fixture.sim.faults().clear();
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2, "an outage costs no login");
}

#[tokio::test]
async fn lost_answer_is_tried_once_more_then_person_has_to_consent() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.clock.advance(Duration::from_secs(7200 - 300));
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LostAnswer));
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1, "served to its expiry");
    let token = fixture.current(&person).await;
    assert_eq!((token.status, token.failures), (TokenStatus::OutcomeUnknown, 1));
    fixture.clock.advance(Duration::from_secs(120));
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1);
    assert_eq!(fixture.current(&person).await.status, TokenStatus::ReauthorizationRequired);
    fixture.clock.advance(Duration::from_secs(300));
    assert!(matches!(fixture.served(&person, 60).await, Err(AuthError::AuthenticationRequired)));
    assert_eq!((fixture.refreshes(), fixture.run_due().await), (2, 0));
    fixture.authorized(0).await;
    assert!(fixture.served(&person, 60).await.is_ok(), "a new consent starts anew");
    fixture.assert_no_violation();
}

#[tokio::test]
async fn lost_request_is_tried_again_and_succeeds() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::Cut));
    assert!(matches!(fixture.served(&person, 60).await, Err(AuthError::UpstreamUnavailable { .. })));
    fixture.clock.advance(Duration::from_secs(120));
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
    assert_eq!(fixture.current(&person).await.status, TokenStatus::Active);
}

#[tokio::test]
async fn holder_that_died_before_sending_loses_nothing() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.leased_by_a_dead_holder(&person).await;
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
    fixture.assert_no_violation();
}

#[tokio::test]
async fn holder_that_died_after_sending_has_time_for_its_pair_to_arrive() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.leased_by_a_dead_holder(&person).await;
    // Lark gave a pair, and the process died with it.
    let refused = Effect::Answer { status: 400, code: 20_073 };
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, refused).times(2));
    assert!(matches!(fixture.served(&person, 60).await, Err(AuthError::UpstreamUnavailable { .. })));
    assert_eq!(fixture.current(&person).await.status, TokenStatus::OutcomeUnknown);
    fixture.clock.advance(Duration::from_secs(120));
    assert!(matches!(fixture.served(&person, 60).await, Err(AuthError::AuthenticationRequired)));
    assert_eq!(fixture.current(&person).await.status, TokenStatus::ReauthorizationRequired);
}

#[tokio::test]
async fn error_hits_whom_it_belongs_to() {
    for (code, status, error) in [
        (20_026, TokenStatus::ReauthorizationRequired, "AuthenticationRequired"),
        (20_037, TokenStatus::ReauthorizationRequired, "AuthenticationRequired"),
        (20_064, TokenStatus::ReauthorizationRequired, "AuthenticationRequired"),
        (20_073, TokenStatus::ReauthorizationRequired, "AuthenticationRequired"),
        (20_024, TokenStatus::ReauthorizationRequired, "AuthenticationRequired"),
        (20_008, TokenStatus::Suspended, "AuthenticationRequired"),
        (20_066, TokenStatus::Suspended, "AuthenticationRequired"),
        (20_002, TokenStatus::Active, "AppFrozen"),
        (20_069, TokenStatus::Active, "AppFrozen"),
        (20_074, TokenStatus::Active, "AppFrozen"),
        (20_063, TokenStatus::Active, "UpstreamUnavailable"),
        (29_999, TokenStatus::Active, "UpstreamUnavailable"),
    ] {
        let fixture = Fixture::new().await;
        let person = fixture.expired(0).await;
        fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::Answer { status: 400, code }));
        let refused = fixture.served(&person, 60).await.unwrap_err();
        assert!(format!("{refused:?}").starts_with(error), "{code}: {refused:?}");
        let token = fixture.current(&person).await;
        assert_eq!(token.status, status, "{code}");
        assert!(token.pair.refresh_token.is_some(), "{code}: refreshing never deletes");
        let application = fixture.parts.apps.get(&fixture.app_id()).await.unwrap().application.clone();
        assert_eq!(application.frozen_since.is_some(), [20_002, 20_069, 20_074].contains(&code), "{code}");
    }
}

#[tokio::test]
async fn application_refused_for_an_hour_costs_no_login() {
    let fixture = Fixture::new().await;
    let people = [fixture.expired(0).await, fixture.authorized(1).await];
    fixture.clock.advance(TWO_HOURS);
    let secret_wrong = Effect::Answer { status: 400, code: 20_002 };
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, secret_wrong).until_cleared());
    for _ in 0..60 {
        fixture.run_due().await;
        fixture.clock.advance(Duration::from_secs(60));
    }
    assert!(fixture.refreshes() < 40, "the breaker keeps the calls few: {}", fixture.refreshes());
    fixture.sim.faults().clear();
    fixture.clock.advance(Duration::from_secs(301));
    fixture.run_due().await;
    for person in &people {
        let token = fixture.current(person).await;
        assert_eq!((token.status, token.generation), (TokenStatus::Active, 2));
    }
    assert!(fixture.sim.messages().len() <= 2, "no card was sent for it");
}

#[tokio::test]
async fn pair_that_database_refuses_is_served_and_arrives_over_the_bus() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sql("alter table access_tokens add constraint broken check (generation < 2) not valid").await;
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2, "the pair in memory is served");
    assert_eq!(fixture.current(&person).await.generation, 1);
    let escrowed = fixture.bus.take::<TokenEscrowed>();
    assert!(matches!(fixture.deliver(escrowed.clone()).await, Disposition::Retry { .. }));
    fixture.sql("alter table access_tokens drop constraint broken").await;
    fixture.end_leases().await;
    assert_eq!(fixture.deliver(escrowed.clone()).await, Disposition::DONE);
    assert_eq!(fixture.deliver(escrowed).await, Disposition::DONE, "the same again changes nothing");
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
    assert_eq!(fixture.refreshes(), 1);
}

#[tokio::test]
async fn pair_that_neither_database_nor_bus_takes_is_replayed_from_the_spool() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sql("alter table access_tokens add constraint broken check (generation < 2) not valid").await;
    fixture.bus.go_down();
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
    let now = fixture.context.now();
    assert_eq!(fixture.context.replay_spool(&ACTOR, now, &CancellationToken::new()).await.unwrap(), 0);
    fixture.sql("alter table access_tokens drop constraint broken").await;
    assert_eq!(fixture.context.replay_spool(&ACTOR, now, &CancellationToken::new()).await.unwrap(), 1);
    assert_eq!(fixture.context.replay_spool(&ACTOR, now, &CancellationToken::new()).await.unwrap(), 0);
    assert_eq!(fixture.current(&person).await.generation, 2);
}

#[tokio::test]
async fn revoked_while_answer_is_on_its_way_stays_revoked() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LateAnswer(300)));
    let revoke = async {
        let sent =
            |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenRefresh) > 0).then_some(());
        fixture.sim.wait_until(Duration::from_secs(10), sent).await.unwrap();
        let now = fixture.context.now();
        fixture.context.revoke_token(&ACTOR, now, &fixture.app_id(), &person).await.unwrap()
    };
    let (served, revoked) = tokio::join!(fixture.served(&person, 60), revoke);
    assert!(revoked && matches!(served, Err(AuthError::AuthenticationRequired)), "{served:?}");
    let token = fixture.parts.store.token(&fixture.app_id(), &person, TokenKind::User).await.unwrap();
    assert!(token.is_none());
}

#[tokio::test]
async fn due_tokens_are_refreshed_by_use_and_age() {
    let fixture = Fixture::new().await;
    let (used, idle) = (fixture.authorized(0).await, fixture.authorized(1).await);
    assert_eq!(fixture.run_due().await, 0, "nothing is due");
    fixture.clock.advance(Duration::from_secs(5761));
    assert_eq!((fixture.run_due().await, fixture.run_due().await), (2, 0));
    // Use is recorded once an hour. Two days later only one of the two is in use.
    for _ in 0..30 {
        fixture.clock.advance(Duration::from_secs(5761));
        fixture.served(&used, 60).await.unwrap();
        fixture.run_due().await;
    }
    let (used, idle) = (fixture.current(&used).await, fixture.current(&idle).await);
    assert!(used.generation >= 30, "{}", used.generation);
    assert!(idle.generation < 25, "an idle login is kept by its refresh token: {}", idle.generation);
    let next = idle.next_attempt_at.unwrap() - idle.issued_at;
    assert!(next > chrono::TimeDelta::days(5), "{next}");
    fixture.assert_no_violation();
}

#[tokio::test]
async fn due_tokens_of_two_processes_are_refreshed_once_each() {
    let fixture = Fixture::with(crate::fixture::Setup {
        sim: larkauth_lark_sim::SimConfig::default().with_users(25),
        ..Default::default()
    })
    .await;
    for n in 0..25 {
        fixture.authorized(n).await;
    }
    fixture.clock.advance(Duration::from_secs(7000));
    let other = Context::new(fixture.parts.clone());
    let (now, stopping, actor) = (fixture.context.now(), CancellationToken::new(), ACTOR);
    let (a, b) = tokio::join!(
        fixture.context.refresh_due_tokens(&actor, now, &stopping),
        other.refresh_due_tokens(&actor, now, &stopping)
    );
    assert_eq!(a.unwrap() + b.unwrap(), 25);
    assert_eq!(fixture.refreshes(), 25);
    fixture.assert_no_violation();
}

#[tokio::test]
async fn person_that_is_unavailable_is_suspended() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sim.set_status(person.as_str(), UserStatus::Resigned).unwrap();
    assert!(matches!(fixture.served(&person, 60).await, Err(AuthError::AuthenticationRequired)));
    assert_eq!(fixture.current(&person).await.status, TokenStatus::Suspended);
}

#[tokio::test]
async fn refresh_by_generation_is_not_done_twice() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    let refresh = async |generation| {
        let now = fixture.context.now();
        fixture
            .context
            .refresh_token(&ACTOR, now, &fixture.app_id(), &person, generation)
            .await
            .map(|t| t.generation)
    };
    assert_eq!(refresh(Some(1)).await.unwrap(), 2);
    assert_eq!(refresh(Some(1)).await.unwrap(), 2, "a newer one exists");
    assert_eq!(fixture.refreshes(), 1);
    assert_eq!(refresh(Some(2)).await.unwrap(), 3);
    assert_eq!(refresh(None).await.unwrap(), 4);
    fixture.assert_no_violation();
}

/// A caller may know a token from before an erasure, after which the generation begins anew.
#[tokio::test]
async fn refresh_by_generation_that_does_not_exist_gives_a_newer_token() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    let now = fixture.context.now();
    let refresh = async |known| {
        fixture.context.refresh_token(&ACTOR, now, &fixture.app_id(), &person, Some(known)).await
    };
    assert_eq!(refresh(4).await.unwrap().generation, 2);
    assert_eq!(refresh(i64::MAX).await.unwrap().generation, 3);
    fixture.assert_no_violation();
}

#[tokio::test]
async fn refresh_whose_answer_names_no_scope_keeps_the_scopes() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    let before = fixture.current(&person).await.pair.scopes;
    assert!(!before.is_empty());
    let unnamed = Effect::Reshaped { status: 200, merge: serde_json::json!({ "scope": null }) };
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, unnamed));
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
    assert_eq!(fixture.current(&person).await.pair.scopes, before);
}

#[tokio::test]
async fn forced_refresh_that_opens_the_breaker_says_that_the_application_is_refused() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture
        .sim
        .faults()
        .push(Fault::at(Endpoint::TokenRefresh, Effect::Answer { status: 400, code: 20_002 }));
    let now = fixture.context.now();
    for _ in 0..2 {
        let refused = fixture.context.refresh_token(&ACTOR, now, &fixture.app_id(), &person, None).await;
        assert!(matches!(refused, Err(AuthError::AppFrozen { .. })), "{refused:?}");
    }
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 1, "it is still valid");
}

#[tokio::test]
async fn on_demand_policy_refreshes_for_callers_only() {
    let mut policy = crate::fixture::policy(100);
    policy.refresh.policy = RefreshPolicy::OnDemand;
    let fixture = Fixture::with(crate::fixture::Setup { policy, ..Default::default() }).await;
    let person = fixture.authorized(0).await;
    fixture.clock.advance(Duration::from_secs(6 * 86_400));
    assert_eq!(fixture.run_due().await, 0);
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2);
}

#[tokio::test]
async fn refresh_by_generation_whose_pair_is_on_its_way_returns_no_older_one() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.sql("alter table access_tokens add constraint broken check (generation < 2) not valid").await;
    let other = Context::new(fixture.parts.clone());
    let refresh = async |context: &Context, generation| {
        let now = context.now();
        let newer = context.refresh_token(&ACTOR, now, &fixture.app_id(), &person, Some(generation)).await;
        newer.map(|token| token.generation)
    };
    assert_eq!(refresh(&fixture.context, 1).await.unwrap(), 2, "the pair in memory");
    for context in [&fixture.context, &other] {
        let refused = refresh(context, 2).await.unwrap_err();
        assert!(matches!(refused, AuthError::RefreshInProgress { .. }), "{refused:?}");
    }
    fixture.sql("alter table access_tokens drop constraint broken").await;
    assert_eq!(fixture.deliver(fixture.bus.take::<TokenEscrowed>()).await, Disposition::DONE);
    assert_eq!(refresh(&fixture.context, 2).await.unwrap(), 3);
    fixture.assert_no_violation();
}

#[tokio::test]
async fn token_of_application_that_is_disabled_during_the_refresh_is_not_served() {
    let fixture = Fixture::new().await;
    let person = fixture.expired(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LateAnswer(300)));
    let disable = async {
        let sent =
            |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenRefresh) > 0).then_some(());
        fixture.sim.wait_until(Duration::from_secs(10), sent).await.unwrap();
        let now = fixture.context.now();
        fixture.context.set_application_enabled(&ACTOR, now, &fixture.app_id(), false).await.unwrap();
    };
    let (served, ()) = tokio::join!(fixture.served(&person, 60), disable);
    assert!(matches!(served, Err(AuthError::AppDisabled(_))), "{served:?}");
    assert_eq!(fixture.current(&person).await.generation, 2, "the pair is kept");
}
