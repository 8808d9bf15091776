//! The device flow when something fails: Lark, the application, the person, a process, the broker.

use std::time::Duration;

use larkauth_auth::Policy;
use larkauth_contracts::message::{InvitationRequested, SessionEnded};
use larkauth_lark_sim::{Effect, Endpoint, Fault};
use larkauth_messaging::Disposition;
use larkauth_models::{AuthMethod, FailureReason, Person, SessionState, Timestamp};
use serde_json::{Value, json};

use crate::{
    codes::{COMPLETED, failed},
    devices::{PENDING, STEP},
    fixture::{ACTOR, Fixture, Setup, policy, running},
};

#[tokio::test]
async fn lark_down_is_waited_for_with_growing_pauses() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    fixture.decide(&invited, Some(0)).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenDevice, Effect::Cut).until_cleared());
    let mut pauses = Vec::new();
    for _ in 0..4 {
        assert_eq!(fixture.poll().await, 0);
        pauses.push(fixture.polls_of(&invited).await.due_in);
    }
    assert_eq!(pauses, [10, 20, 30, 30]);
    fixture.sim.faults().clear();
    fixture.completes(&invited).await;
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn rate_limit_is_waited_for() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenDevice, Effect::TooManyRequests(2)));
    assert_eq!(fixture.poll().await, 0);
    let polls = fixture.polls_of(&invited).await;
    assert_eq!((polls.due_in, polls.failures, polls.is_answer_lost), (10, 1, false));
    fixture.decide(&invited, Some(0)).await;
    fixture.completes(&invited).await;
}

#[tokio::test]
async fn wrong_secret_fails_one_session_and_stops_all_polls() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.device(0).await, fixture.device(1).await);
    fixture.sim.faults().push(Fault::at(Endpoint::TokenDevice, Effect::Answer { status: 400, code: 20002 }));
    // One poll at a time, so that the other one is after the breaker.
    fixture.clock.advance(STEP);
    fixture.sql("update user_auth_sessions set device_poll_at = 'epoch' where open_id = (select min(open_id) from user_auth_sessions)").await;
    assert_eq!(fixture.poll_due().await, 1);
    let (refused, other) = match fixture.state_of(&first).await.0 {
        SessionState::Failed => (first, second),
        _ => (second, first),
    };
    assert_eq!(fixture.ended(&refused).await, failed(FailureReason::AppMisconfigured));
    assert_eq!((fixture.poll().await, fixture.polled()), (0, 1), "the breaker is open");
    assert_eq!(fixture.state_of(&other).await, PENDING);

    // After its time one poll tries again. The codes have expired meanwhile.
    fixture.clock.advance(Policy::default().breaker_open);
    assert_eq!(fixture.poll().await, 0);
    fixture.decide(&other, Some(if other.open_id == fixture.person(0) { 0 } else { 1 })).await;
    fixture.completes(&other).await;
    let app = fixture.parts.store.application(&fixture.app_id()).await.unwrap().unwrap();
    assert_eq!(app.frozen_since, None, "Lark accepts the application again");
}

#[tokio::test]
async fn refused_authorization_fails_session_without_card() {
    let fixture = Fixture::new().await;
    let (session_id, message) = fixture.device_asked(0).await;
    let refuse = |status, code| Fault::at(Endpoint::DeviceAuthorization, Effect::Answer { status, code });
    fixture.sim.faults().push(refuse(503, 20050));
    assert!(matches!(fixture.deliver(message.clone()).await, Disposition::Retry { .. }));
    fixture.sim.faults().push(refuse(400, 20002));
    assert_eq!(fixture.deliver(message).await, Disposition::DONE);
    let session = fixture.session(session_id).await;
    assert_eq!(session.failure_reason, Some(FailureReason::AppMisconfigured));
    assert!(session.message_id.is_none() && fixture.sim.messages().is_empty());
    let app = fixture.parts.store.application(&fixture.app_id()).await.unwrap().unwrap();
    assert!(app.frozen_since.is_some());
}

#[tokio::test]
async fn application_without_the_device_grant_fails_one_session_and_opens_no_breaker() {
    let refused = |endpoint| {
        let merge = json!({ "code": 29_999, "error": "unauthorized_client", "device_code": null });
        Fault::at(endpoint, Effect::Reshaped { status: 400, merge })
    };
    let fixture = Fixture::new().await;
    let is_frozen = async || {
        let app = fixture.parts.store.application(&fixture.app_id()).await.unwrap().unwrap();
        app.frozen_since.is_some()
    };
    let (session_id, message) = fixture.device_asked(0).await;
    fixture.sim.faults().push(refused(Endpoint::DeviceAuthorization));
    assert_eq!(fixture.deliver(message).await, Disposition::DONE);
    let session = fixture.session(session_id).await;
    assert_eq!(session.failure_reason, Some(FailureReason::AppMisconfigured));
    assert!(!is_frozen().await, "at the authorization");

    let invited = fixture.device(1).await;
    fixture.sim.faults().push(refused(Endpoint::TokenDevice));
    assert_eq!(fixture.poll().await, 1);
    let refused = (SessionState::Failed, Some(FailureReason::AppMisconfigured));
    assert_eq!(fixture.state_of(&invited).await, refused);
    assert!(!is_frozen().await, "at a poll");
    fixture.authorized(2).await;
}

#[tokio::test]
async fn disabled_application_polls_nothing_and_fails() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    let (app_id, now) = (fixture.app_id(), fixture.context.now());
    fixture.context.set_application_enabled(&ACTOR, now, &app_id, false).await.unwrap();
    assert_eq!((fixture.poll().await, fixture.polled()), (1, 0));
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::AppDisabled));
}

#[tokio::test]
async fn refused_person_fails_session() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    fixture.sim.faults().push(Fault::at(Endpoint::TokenDevice, Effect::Answer { status: 400, code: 20010 }));
    assert_eq!(fixture.poll().await, 1);
    assert_eq!(fixture.ended(&invited).await, failed(FailureReason::UserUnavailable));
}

#[tokio::test]
async fn killed_poller_is_followed_by_another_poll() {
    let policy = Policy { exchange_claim: Duration::ZERO, ..policy(100) };
    let fixture = Fixture::with(Setup { policy, ..Setup::default() }).await;
    let invited = fixture.device(0).await;
    fixture.polls_due().await;
    // Claimed and sent, and then nothing.
    let (now, claims) = (fixture.context.now(), [fixture.context.new_uuid()]);
    let store = &fixture.parts.store;
    let killed = store.claim_device_polls(now, Timestamp::UNIX_EPOCH, STEP, &claims, Duration::ZERO).await;
    assert_eq!(killed.unwrap().len(), 1);
    assert_eq!((fixture.poll_due().await, fixture.polled()), (0, 0), "its pair may be on its way");
    for _ in 0..3 {
        fixture.context.resume_exchanges(&ACTOR, now, &running()).await.unwrap();
    }
    assert_eq!(fixture.state_of(&invited).await, PENDING, "a poll can be repeated");
    fixture.decide(&invited, Some(0)).await;
    fixture.completes(&invited).await;
}

#[tokio::test]
async fn pair_of_poll_is_in_escrow_until_lark_says_whose_it_is() {
    let policy = Policy {
        commit_reserve: Duration::from_secs(20),
        resume_pause: Duration::ZERO,
        resume_deadline: Policy::default().handler_deadline,
        ..policy(100)
    };
    let fixture = Fixture::with(Setup { policy, ..Setup::default() }).await;
    let invited = fixture.device(0).await;
    fixture.decide(&invited, Some(0)).await;
    fixture
        .sim
        .faults()
        .push(Fault::at(Endpoint::UserInfo, Effect::Answer { status: 503, code: 1 }).until_cleared());
    assert_eq!(fixture.poll().await, 0);
    assert_eq!((fixture.state_of(&invited).await, fixture.polled()), (PENDING, 1));
    assert_eq!((fixture.poll().await, fixture.polled()), (0, 1), "there is a pair: nothing is polled");
    fixture.sim.faults().clear();
    let now = fixture.context.now();
    assert_eq!(fixture.context.resume_exchanges(&ACTOR, now, &running()).await.unwrap(), 1);
    assert_eq!(fixture.ended(&invited).await, COMPLETED);
}

#[tokio::test]
async fn broker_down_does_not_keep_poll_from_storing_token() {
    let fixture = Fixture::new().await;
    let invited = fixture.device(0).await;
    fixture.decide(&invited, Some(0)).await;
    fixture.bus.go_down();
    assert_eq!(fixture.poll().await, 1);
    assert_eq!(fixture.state_of(&invited).await.0, SessionState::Completed);
    fixture.bus.come_back();
    fixture.clock.advance(STEP);
    let now = fixture.context.now();
    assert_eq!(fixture.context.announce_ends(&ACTOR, now, &running()).await.unwrap(), 1);
    assert_eq!(fixture.bus.take::<SessionEnded>().data.state, SessionState::Completed);
}

#[tokio::test]
async fn longest_card_with_codes_is_accepted_or_refused_at_the_request() {
    let fixture = Fixture::new().await;
    let mut invite = fixture.invitation(Person { open_id: Some(fixture.person(0)), user_id: None });
    invite.auth_method = AuthMethod::DeviceCode;
    invite.card.custom_message = Some("\u{597d}".repeat(1000));
    let session = fixture.context.invite(&ACTOR, fixture.context.now(), invite).await.unwrap();
    assert_eq!(fixture.deliver(fixture.bus.take::<InvitationRequested>()).await, Disposition::DONE);
    let card: Value =
        fixture.sim.card(fixture.session(session.id).await.message_id.unwrap().as_str()).unwrap();
    assert!(card.to_string().len() < 30 * 1024);
}
