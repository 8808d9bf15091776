//! Bringing a card to the face that its session asks for.

use std::collections::BTreeMap;

use larkauth_contracts::{
    message::{CardActionKind, CardFaceRequested, InvitationRequested, SessionEnded},
    topology::Queue,
};
use larkauth_lark_sim::{Effect, Endpoint, Fault, SimConfig, SimUser};
use larkauth_messaging::Disposition;
use larkauth_models::{CardFace, FailureReason, Person, SessionState};
use larkauth_storage::{SessionEnding, testing::act};
use serde_json::{Value, json};

use crate::fixture::{ACTOR, Fixture, Invited, Setup, delivery, reply};

impl Fixture {
    /// A session that ended on its own, not announced.
    async fn ended_as(&self, ending: SessionEnding) -> Invited {
        let invited = self.invited(0).await;
        assert!(
            self.parts.store.end_session(invited.session_id, ending, &act(self.context.now())).await.unwrap()
        );
        invited
    }

    async fn look(&self, at: &Invited) -> Disposition {
        self.deliver(self.message(CardFaceRequested { session_id: at.session_id })).await
    }
}

#[tokio::test]
async fn update_card_of_ended_session_updates_once() {
    let fixture = Fixture::new().await;
    for (ending, colour) in [
        (SessionEnding::Rejected, "grey"),
        (SessionEnding::Expired, "grey"),
        (SessionEnding::Failed(FailureReason::CodeInvalid), "red"),
    ] {
        let before = fixture.sim.stats().calls(Endpoint::MessageUpdate);
        let invited = fixture.ended_as(ending).await;
        assert_eq!(fixture.look(&invited).await, Disposition::DONE);
        assert_eq!(fixture.colour(&invited), colour);
        assert_eq!(fixture.look(&invited).await, Disposition::DONE);
        assert_eq!(fixture.sim.stats().calls(Endpoint::MessageUpdate), before + 1);
    }
}

#[tokio::test]
async fn update_card_of_pending_session_keeps_open_faces() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    for face in [CardFace::Invitation, CardFace::Processing, CardFace::Reauthorize] {
        fixture.parts.store.record_face(invited.session_id, face).await.unwrap();
        assert_eq!(fixture.look(&invited).await, Disposition::DONE);
    }
    assert_eq!(fixture.sim.stats().calls(Endpoint::MessageUpdate), 0);
    // A retried session took over a card that still shows its old end.
    fixture.parts.store.record_face(invited.session_id, CardFace::Expired).await.unwrap();
    assert_eq!(fixture.look(&invited).await, Disposition::DONE);
    assert_eq!(fixture.sim.stats().calls(Endpoint::MessageUpdate), 1);
    assert_eq!(fixture.colour(&invited), "blue");
}

#[tokio::test]
async fn session_ended_with_pending_answer_delays_update() {
    let fixture = Fixture::new().await;
    let invited = fixture.ended_as(SessionEnding::Rejected).await;
    let ended = |card_answer_pending| SessionEnded {
        session_id: invited.session_id,
        state: SessionState::Rejected,
        failure_reason: None,
        open_id: None,
        user_id: None,
        card_answer_pending,
    };
    assert_eq!(fixture.deliver(fixture.message(ended(true))).await, Disposition::DONE);
    assert_eq!(fixture.sim.stats().calls(Endpoint::MessageUpdate), 0);
    let (request, later) = fixture.bus.take_delayed::<CardFaceRequested>();
    let (queue, delay) = later.unwrap();
    assert_eq!((request.data.session_id, queue), (invited.session_id, Queue::CardFaces));
    assert!(delay.as_secs() >= 3, "Lark waits up to 3 s for the answer");

    assert_eq!(fixture.deliver(fixture.message(ended(false))).await, Disposition::DONE);
    assert_eq!(fixture.colour(&invited), "grey");
}

#[tokio::test]
async fn update_card_of_unchangeable_card_records_face() {
    let fixture = Fixture::new().await;
    for lose in [larkauth_lark_sim::Sim::recall, larkauth_lark_sim::Sim::delete_message] {
        let invited = fixture.ended_as(SessionEnding::Rejected).await;
        lose(&fixture.sim, invited.message_id.as_str()).unwrap();
        assert_eq!(fixture.look(&invited).await, Disposition::DONE);
        assert_eq!(fixture.session(invited.session_id).await.card_face, Some(CardFace::Declined));
    }
    let invited = fixture.ended_as(SessionEnding::Rejected).await;
    fixture.clock.advance(std::time::Duration::from_secs(15 * 24 * 3600));
    assert_eq!(fixture.look(&invited).await, Disposition::DONE);
}

#[tokio::test]
async fn update_card_refused_for_good_is_not_repeated() {
    let fixture = Fixture::new().await;
    for code in [
        230_001, 230_027, 230_050, 230_054, 230_099, 300_309, 11_310, 200_673, 200_800, 200_830, 99_991_672,
        99_992_354, 99_992_361, 99_992_364, 99_992_402,
    ] {
        let invited = fixture.ended_as(SessionEnding::Rejected).await;
        let before = fixture.sim.stats().calls(Endpoint::MessageUpdate);
        // Lark allows five messages a second to one person.
        fixture.clock.advance(std::time::Duration::from_secs(1));
        fixture.sim.faults().push(Fault::at(Endpoint::MessageUpdate, Effect::Answer { status: 400, code }));
        assert_eq!(fixture.look(&invited).await, Disposition::DONE, "{code}");
        assert_eq!(fixture.look(&invited).await, Disposition::DONE, "{code}");
        assert_eq!(fixture.sim.stats().calls(Endpoint::MessageUpdate), before + 1, "{code}");
    }
}

/// A card template of each schema.
fn templates() -> BTreeMap<String, Value> {
    let text = json!({ "tag": "plain_text", "content": "Please agree" });
    let value = json!({ "session_id": "${session_id}", "action": "cancel" });
    let header = json!({ "title": text, "template": "purple" });
    let old = json!({
        "config": { "update_multi": true }, "header": header,
        "elements": [{ "tag": "action", "actions": [{ "tag": "button", "text": text, "value": value }] }],
    });
    let behaviors = json!([{ "type": "callback", "value": value }]);
    let new = json!({
        "schema": "2.0", "config": { "update_multi": true }, "header": header,
        "body": { "elements": [{ "tag": "button", "text": text, "behaviors": behaviors }] },
    });
    BTreeMap::from([("old".to_owned(), old), ("new".to_owned(), new)])
}

#[tokio::test]
async fn update_card_of_template_keeps_its_schema() {
    let sim = SimConfig { templates: templates(), users: vec![SimUser::numbered(1)], ..SimConfig::default() };
    let fixture = Fixture::with(Setup { sim, ..Setup::default() }).await;
    for (template, updates) in [("old", 1), ("new", 2)] {
        let person = Person { open_id: Some(fixture.person(0)), user_id: None };
        let mut invite = fixture.invitation(person);
        invite.card.template_id = Some(template.to_owned());
        let session = fixture.context.invite(&ACTOR, fixture.context.now(), invite).await.unwrap();
        assert_eq!(fixture.deliver(fixture.bus.take::<InvitationRequested>()).await, Disposition::DONE);
        let message_id = fixture.session(session.id).await.message_id.unwrap();
        let invited = Invited { session_id: session.id, message_id, open_id: fixture.person(0) };
        assert_eq!(fixture.colour(&invited), "purple");

        // The answer to the click keeps the template, whose schema is not known.
        let reply = reply(fixture.deliver(fixture.click(&invited, CardActionKind::Cancel)).await);
        let answer = reply.answer.unwrap();
        assert_eq!((reply.shows, answer["card"]["type"].as_str()), (None, Some("template")), "{template}");
        assert_eq!(answer["card"]["data"]["template_variable"]["face"], "declined");
        fixture.bus.take::<SessionEnded>();

        let before = fixture.sim.stats().calls(Endpoint::MessageUpdate);
        assert_eq!(fixture.look(&invited).await, Disposition::DONE);
        assert_eq!(fixture.sim.stats().calls(Endpoint::MessageUpdate), before + updates, "{template}");
        assert_eq!(fixture.colour(&invited), "grey", "{template}");
        let card = fixture.sim.card(invited.message_id.as_str()).unwrap();
        assert_eq!(card["schema"] == "2.0", template == "new");
        assert_eq!(fixture.session(session.id).await.card_face, Some(CardFace::Declined));
    }
    assert_eq!(fixture.sim.violations(), []);
}

#[tokio::test]
async fn update_card_after_last_attempt_leaves_card_to_reconciliation() {
    let fixture = Fixture::new().await;
    let invited = fixture.ended_as(SessionEnding::Rejected).await;
    fixture.sim.faults().push(
        Fault::at(Endpoint::MessageUpdate, Effect::Answer { status: 400, code: 99_999_999 }).until_cleared(),
    );
    let mut message = delivery(&fixture.message(CardFaceRequested { session_id: invited.session_id }));
    assert!(matches!(fixture.handle(message.clone()).await, Disposition::Retry { .. }));
    message.attempt = 6;
    assert_eq!(fixture.handle(message).await, Disposition::DONE);
    assert_eq!(
        fixture.session(invited.session_id).await.card_face,
        Some(CardFace::Invitation),
        "the reconciliation still claims the card"
    );

    fixture.sim.faults().clear();
    assert_eq!(fixture.look(&invited).await, Disposition::DONE);
    assert_eq!(fixture.colour(&invited), "grey");
}

#[tokio::test]
async fn update_card_without_card_is_done() {
    let fixture = Fixture::new().await;
    let mut invite = fixture.invitation(Person { open_id: Some(fixture.person(0)), user_id: None });
    invite.auth_method = larkauth_models::AuthMethod::Oauth;
    let session = fixture.context.invite(&ACTOR, fixture.context.now(), invite).await.unwrap();
    let request = CardFaceRequested { session_id: session.id };
    assert_eq!(fixture.deliver(fixture.message(request)).await, Disposition::DONE);
    let unknown = CardFaceRequested { session_id: larkauth_models::SessionId(uuid::Uuid::from_u128(5)) };
    assert_eq!(fixture.deliver(fixture.message(unknown)).await, Disposition::DONE);
}

#[tokio::test]
async fn card_face_of_unknown_message_is_dead_letter() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let mut message = delivery(&fixture.message(CardFaceRequested { session_id: invited.session_id }));
    message.body = "{}".into();
    assert!(matches!(fixture.handle(message.clone()).await, Disposition::Dead { .. }));
    message.r#type = "larkauth.session.ended.v2".to_owned();
    assert!(matches!(fixture.handle(message).await, Disposition::Dead { .. }));
}
