//! Scheduled maintenance: expiry, reconciliation of cards, old events, gauges.

use std::time::Duration;

use larkauth_auth::Policy;
use larkauth_contracts::message::{CardActionKind, CardFaceRequested, InvitationRequested, SessionEnded};
use larkauth_messaging::Disposition;
use larkauth_models::{CardFace, MessageId, Person, SessionState};
use larkauth_storage::{SessionEnding, testing::act};

use crate::fixture::{ACTOR, Fixture, Setup, policy, reply, running};

/// Sweeps that touch so many rows at once.
async fn with_batch(sweep_batch: u32) -> Fixture {
    let policy = Policy { sweep_batch, ..policy(100) };
    Fixture::with(Setup { policy, ..Setup::default() }).await
}

#[tokio::test]
async fn expire_sessions_expires_and_announces_once() {
    let fixture = Fixture::new().await;
    let (unanswered, declined) = (fixture.invited(0).await, fixture.invited(1).await);
    reply(fixture.deliver(fixture.click(&declined, CardActionKind::Cancel)).await);
    fixture.bus.take::<SessionEnded>();
    fixture.clock.advance(Duration::from_secs(599));
    assert_eq!(fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 0);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 1);
    assert_eq!(fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 0);

    let ended = fixture.bus.take::<SessionEnded>();
    assert_eq!((ended.data.session_id, ended.data.state), (unanswered.session_id, SessionState::Expired));
    assert_eq!(fixture.session(declined.session_id).await.state, SessionState::Rejected);
    assert_eq!(fixture.deliver(ended).await, Disposition::DONE);
    assert_eq!(fixture.colour(&unanswered), "grey");
    let metrics = fixture.context.metrics().render();
    assert!(
        metrics.contains("lark_service_auth_session_expired_total{app_id=\"cli_0123456789abcdef\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn expire_sessions_of_several_batches_expires_all() {
    let fixture = with_batch(10).await;
    for n in 0..25 {
        let person = Person { open_id: Some(format!("ou_{n}").parse().unwrap()), user_id: None };
        fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(person)).await.unwrap();
    }
    fixture.clock.advance(Duration::from_secs(600));
    assert_eq!(fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 25);
}

#[tokio::test]
async fn reconcile_cards_after_crash_requests_update() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    // Ended, and the process died before it could say so.
    fixture
        .parts
        .store
        .end_session(invited.session_id, SessionEnding::Rejected, &act(fixture.context.now()))
        .await
        .unwrap();
    assert_eq!(
        fixture.context.reconcile_cards(&ACTOR, fixture.context.now(), &running()).await.unwrap(),
        0,
        "there is still time"
    );
    fixture.clock.advance(Duration::from_secs(61));
    assert_eq!(fixture.context.reconcile_cards(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 1);
    let request = fixture.bus.take::<CardFaceRequested>();
    assert_eq!(fixture.deliver(request).await, Disposition::DONE);
    assert_eq!(fixture.colour(&invited), "grey");
    assert_eq!(fixture.session(invited.session_id).await.card_face, Some(CardFace::Declined));
    assert_eq!(fixture.context.reconcile_cards(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 0);
}

#[tokio::test]
async fn reconcile_cards_takes_turns() {
    let fixture = with_batch(10).await;
    let store = &fixture.parts.store;
    let card = async |n: u32| {
        let person = Person { open_id: Some(format!("ou_{n}").parse().unwrap()), user_id: None };
        let session =
            fixture.context.invite(&ACTOR, fixture.context.now(), fixture.invitation(person)).await.unwrap();
        let message = MessageId::new(format!("om_{n}")).unwrap();
        store.record_card(session.id, &message, CardFace::Invitation).await.unwrap();
        store.end_session(session.id, SessionEnding::Rejected, &act(fixture.context.now())).await.unwrap();
        fixture.bus.take::<InvitationRequested>();
        fixture.clock.advance(Duration::from_millis(1));
        session.id
    };
    // As many as one sweep takes, and one more.
    for n in 0..10 {
        card(n).await;
    }
    let last = card(10).await;
    let mut asked = Vec::new();
    for _ in 0..2 {
        fixture.clock.advance(Duration::from_secs(61));
        for _ in 0..fixture.context.reconcile_cards(&ACTOR, fixture.context.now(), &running()).await.unwrap()
        {
            asked.push(fixture.bus.take::<CardFaceRequested>().data.session_id);
        }
    }
    assert_eq!((asked.len(), asked.contains(&last)), (20, true));
}

#[tokio::test]
async fn expire_sessions_with_bus_down_continues() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    fixture.clock.advance(Duration::from_secs(600));
    fixture.bus.go_down();
    assert_eq!(fixture.context.expire_sessions(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 1);
    assert_eq!(fixture.session(invited.session_id).await.state, SessionState::Expired);
}

#[tokio::test]
async fn purge_events_keeps_events_for_two_days() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    reply(fixture.deliver(fixture.click(&invited, CardActionKind::Authorize)).await);
    fixture.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(fixture.context.purge_events(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 0);
    fixture.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(fixture.context.purge_events(&ACTOR, fixture.context.now(), &running()).await.unwrap(), 1);
}

#[tokio::test]
async fn update_gauges_counts_pending_sessions() {
    let fixture = Fixture::new().await;
    fixture.invited(0).await;
    fixture.context.update_gauges(fixture.context.now()).await.unwrap();
    let metrics = fixture.context.metrics().render();
    assert!(
        metrics.contains("lark_service_auth_session_active{app_id=\"cli_0123456789abcdef\"} 1"),
        "{metrics}"
    );
}
