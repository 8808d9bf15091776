//! Bringing a card to the face that its session asks for.

use larkauth_contracts::{
    message::{CardFaceRequested, SessionEnded},
    topology::Queue,
};
use larkauth_lark_sim::{Effect, Endpoint, Fault};
use larkauth_messaging::Verdict;
use larkauth_models::{CardFace, FailureReason, SessionState};
use larkauth_storage::SessionEnding;

use crate::fixture::{ACTOR, Invited, Stage, delivery};

impl Stage {
    /// A session that ended on its own, not announced.
    async fn ended_as(&self, ending: SessionEnding) -> Invited {
        let invited = self.invited(0).await;
        assert!(self.parts.store.end_session(invited.session_id, ending, self.context.now()).await.unwrap());
        invited
    }

    async fn look(&self, at: &Invited) -> Verdict {
        self.deliver(self.message(CardFaceRequested { session_id: at.session_id })).await
    }
}

#[tokio::test]
async fn the_card_follows_the_session_and_is_touched_once() {
    let stage = Stage::new().await;
    for (ending, colour) in [
        (SessionEnding::Rejected, "grey"),
        (SessionEnding::Expired, "grey"),
        (SessionEnding::Failed(FailureReason::CodeInvalid), "red"),
    ] {
        let before = stage.sim.stats().calls(Endpoint::MessageUpdate);
        let invited = stage.ended_as(ending).await;
        assert_eq!(stage.look(&invited).await, Verdict::DONE);
        assert_eq!(stage.colour(&invited), colour);
        assert_eq!(stage.look(&invited).await, Verdict::DONE);
        assert_eq!(stage.sim.stats().calls(Endpoint::MessageUpdate), before + 1);
    }
}

#[tokio::test]
async fn while_consent_is_open_either_open_face_is_right() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    for face in [CardFace::Invitation, CardFace::Processing, CardFace::Reauthorize] {
        stage.parts.store.record_face(invited.session_id, face).await.unwrap();
        assert_eq!(stage.look(&invited).await, Verdict::DONE);
    }
    assert_eq!(stage.sim.stats().calls(Endpoint::MessageUpdate), 0);
    // A retried session took over a card that still shows its old end.
    stage.parts.store.record_face(invited.session_id, CardFace::Expired).await.unwrap();
    assert_eq!(stage.look(&invited).await, Verdict::DONE);
    assert_eq!(stage.sim.stats().calls(Endpoint::MessageUpdate), 1);
    assert_eq!(stage.colour(&invited), "blue");
}

#[tokio::test]
async fn a_card_in_an_answer_is_looked_at_after_the_answer() {
    let stage = Stage::new().await;
    let invited = stage.ended_as(SessionEnding::Rejected).await;
    let ended = |card_answer_pending| SessionEnded {
        session_id: invited.session_id,
        state: SessionState::Rejected,
        failure_reason: None,
        open_id: None,
        user_id: None,
        card_answer_pending,
    };
    assert_eq!(stage.deliver(stage.message(ended(true))).await, Verdict::DONE);
    assert_eq!(stage.sim.stats().calls(Endpoint::MessageUpdate), 0);
    let (request, later) = stage.bus.take_delayed::<CardFaceRequested>();
    let (queue, delay) = later.unwrap();
    assert_eq!((request.data.session_id, queue), (invited.session_id, Queue::CardFaces));
    assert!(delay.as_secs() >= 3, "Lark waits up to 3 s for the answer");

    assert_eq!(stage.deliver(stage.message(ended(false))).await, Verdict::DONE);
    assert_eq!(stage.colour(&invited), "grey");
}

#[tokio::test]
async fn a_card_that_can_no_longer_be_changed_is_left_alone() {
    let stage = Stage::new().await;
    for lose in [larkauth_lark_sim::Sim::recall, larkauth_lark_sim::Sim::delete_message] {
        let invited = stage.ended_as(SessionEnding::Rejected).await;
        lose(&stage.sim, invited.message_id.as_str()).unwrap();
        assert_eq!(stage.look(&invited).await, Verdict::DONE);
        assert_eq!(stage.session(invited.session_id).await.card_face, Some(CardFace::Declined));
    }
    let invited = stage.ended_as(SessionEnding::Rejected).await;
    stage.clock.advance(std::time::Duration::from_secs(15 * 24 * 3600));
    assert_eq!(stage.look(&invited).await, Verdict::DONE);
}

#[tokio::test]
async fn trouble_is_tried_again_and_then_left_to_mending() {
    let stage = Stage::new().await;
    let invited = stage.ended_as(SessionEnding::Rejected).await;
    stage.sim.faults().push(
        Fault::at(Endpoint::MessageUpdate, Effect::Answer { status: 400, code: 99_999_999 }).until_cleared(),
    );
    let mut message = delivery(&stage.message(CardFaceRequested { session_id: invited.session_id }));
    assert!(matches!(stage.handle(message.clone()).await, Verdict::Retry { .. }));
    message.attempt = 6;
    assert_eq!(stage.handle(message).await, Verdict::DONE);
    assert_eq!(
        stage.session(invited.session_id).await.card_face,
        Some(CardFace::Invitation),
        "so mending finds it"
    );

    stage.sim.faults().clear();
    assert_eq!(stage.look(&invited).await, Verdict::DONE);
    assert_eq!(stage.colour(&invited), "grey");
}

#[tokio::test]
async fn sessions_without_a_card_have_nothing_to_bring_up_to_date() {
    let stage = Stage::new().await;
    let mut invite =
        stage.invitation(larkauth_models::Person { open_id: Some(stage.person(0)), user_id: None });
    invite.auth_method = larkauth_models::AuthMethod::Oauth;
    let session = stage.context.invite(&ACTOR, stage.context.now(), invite).await.unwrap();
    let request = CardFaceRequested { session_id: session.id };
    assert_eq!(stage.deliver(stage.message(request)).await, Verdict::DONE);
    let unknown = CardFaceRequested { session_id: larkauth_models::SessionId(uuid::Uuid::from_u128(5)) };
    assert_eq!(stage.deliver(stage.message(unknown)).await, Verdict::DONE);
}

#[tokio::test]
async fn what_it_does_not_know_is_dead_at_once() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let mut message = delivery(&stage.message(CardFaceRequested { session_id: invited.session_id }));
    message.body = "{}".into();
    assert!(matches!(stage.handle(message.clone()).await, Verdict::Dead { .. }));
    message.r#type = "larkauth.session.ended.v2".to_owned();
    assert!(matches!(stage.handle(message).await, Verdict::Dead { .. }));
}
