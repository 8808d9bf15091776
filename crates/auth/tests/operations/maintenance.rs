//! What nobody ended, what a crash left half done, what is no longer needed.

use std::time::Duration;

use larkauth_contracts::message::{CardActionKind, CardFaceRequested, InvitationRequested, SessionEnded};
use larkauth_messaging::Verdict;
use larkauth_models::{CardFace, MessageId, Person, SessionState};
use larkauth_storage::SessionEnding;

use crate::fixture::{ACTOR, Stage, reply};

#[tokio::test]
async fn what_nobody_answered_expires_once_and_is_announced() {
    let stage = Stage::new().await;
    let (unanswered, declined) = (stage.invited(0).await, stage.invited(1).await);
    reply(stage.deliver(stage.click(&declined, CardActionKind::Cancel)).await);
    stage.bus.take::<SessionEnded>();
    stage.clock.advance(Duration::from_secs(599));
    assert_eq!(stage.context.expire_sessions().await.unwrap(), 0);
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.context.expire_sessions().await.unwrap(), 1);
    assert_eq!(stage.context.expire_sessions().await.unwrap(), 0);

    let ended = stage.bus.take::<SessionEnded>();
    assert_eq!((ended.data.session_id, ended.data.state), (unanswered.session_id, SessionState::Expired));
    assert_eq!(stage.session(declined.session_id).await.state, SessionState::Rejected);
    assert_eq!(stage.deliver(ended).await, Verdict::DONE);
    assert_eq!(stage.colour(&unanswered), "grey");
    let metrics = stage.context.metrics().render();
    assert!(
        metrics.contains("lark_service_auth_session_expired_total{app_id=\"cli_0123456789abcdef\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn more_than_one_batch_expires_in_one_round() {
    let stage = Stage::new().await;
    for n in 0..205 {
        let person = Person { open_id: Some(format!("ou_{n}").parse().unwrap()), user_id: None };
        stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(person)).await.unwrap();
    }
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(stage.context.expire_sessions().await.unwrap(), 205);
}

#[tokio::test]
async fn a_card_that_a_crash_left_behind_is_mended() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    // Ended, and the process died before it could say so.
    stage
        .parts
        .store
        .end_session(invited.session_id, SessionEnding::Rejected, stage.context.now())
        .await
        .unwrap();
    assert_eq!(stage.context.reconcile_cards().await.unwrap(), 0, "there is still time");
    stage.clock.advance(Duration::from_secs(61));
    assert_eq!(stage.context.reconcile_cards().await.unwrap(), 1);
    let request = stage.bus.take::<CardFaceRequested>();
    assert_eq!(stage.deliver(request).await, Verdict::DONE);
    assert_eq!(stage.colour(&invited), "grey");
    assert_eq!(stage.session(invited.session_id).await.card_face, Some(CardFace::Declined));
    assert_eq!(stage.context.reconcile_cards().await.unwrap(), 0);
}

#[tokio::test]
async fn cards_that_cannot_be_mended_do_not_keep_others_waiting() {
    let stage = Stage::new().await;
    let store = &stage.parts.store;
    let card = async |n: u32| {
        let person = Person { open_id: Some(format!("ou_{n}").parse().unwrap()), user_id: None };
        let session =
            stage.context.invite(&ACTOR, stage.context.now(), stage.invitation(person)).await.unwrap();
        let message = MessageId::new(format!("om_{n}")).unwrap();
        store.record_card(session.id, &message, CardFace::Invitation).await.unwrap();
        store.end_session(session.id, SessionEnding::Rejected, stage.context.now()).await.unwrap();
        stage.bus.take::<InvitationRequested>();
        stage.clock.advance(Duration::from_millis(1));
        session.id
    };
    // As many as one round takes, and one more.
    for n in 0..200 {
        card(n).await;
    }
    let last = card(200).await;
    let mut asked = Vec::new();
    for _ in 0..2 {
        stage.clock.advance(Duration::from_secs(61));
        for _ in 0..stage.context.reconcile_cards().await.unwrap() {
            asked.push(stage.bus.take::<CardFaceRequested>().data.session_id);
        }
    }
    assert_eq!((asked.len(), asked.contains(&last)), (400, true));
}

#[tokio::test]
async fn an_announcement_that_cannot_go_out_does_not_stop_the_sweep() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    stage.clock.advance(Duration::from_secs(600));
    stage.bus.go_down();
    assert_eq!(stage.context.expire_sessions().await.unwrap(), 1);
    assert_eq!(stage.session(invited.session_id).await.state, SessionState::Expired);
}

#[tokio::test]
async fn handled_events_are_remembered_for_more_than_a_day() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    reply(stage.deliver(stage.click(&invited, CardActionKind::Authorize)).await);
    stage.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(stage.context.purge_events().await.unwrap(), 0);
    stage.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(stage.context.purge_events().await.unwrap(), 1);
}

#[tokio::test]
async fn gauges_count_what_is_open() {
    let stage = Stage::new().await;
    stage.invited(0).await;
    stage.context.update_gauges().await.unwrap();
    let metrics = stage.context.metrics().render();
    assert!(
        metrics.contains("lark_service_auth_session_active{app_id=\"cli_0123456789abcdef\"} 1"),
        "{metrics}"
    );
}
