//! With a real bus: what a callback and a redirect come back with.

use std::{sync::Arc, time::Duration};

use larkauth_auth::{
    Context, ContextParts, Policy,
    callbacks::Answered,
    handlers,
    redirect::{Consent, Landing},
};
use larkauth_contracts::message::{CardActionKind, Envelope, SessionEnded, UnrecognizedCallback};
use larkauth_lark_sim::{Endpoint, Sim};
use larkauth_messaging::{
    Bus,
    testing::{Consuming, PATIENCE, TestBus, consume, eventually},
};
use larkauth_models::{CardFace, ExposeSecret, SecretString, SessionState};
use larkauth_storage::Sealed;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    fixture::{ACTOR, Fixture, Invited, Setup, policy, reply},
    relay,
};

/// A fixture whose messages are handled.
struct Live {
    fixture: Fixture,
    context: Context,
    bus: Arc<dyn Bus>,
    corner: TestBus,
    worker: Vec<Consuming>,
}

impl Live {
    /// The worker's answer is waited for as long as a busy machine needs.
    async fn new() -> Self {
        let policy = Policy { answer_deadline: PATIENCE, redirect_deadline: PATIENCE, ..policy(100) };
        Self::with(Setup { policy, ..Setup::default() }).await
    }

    async fn with(setup: Setup) -> Self {
        let fixture = Fixture::with(setup).await;
        let corner = TestBus::fast().await;
        let bus: Arc<dyn Bus> = corner.bus().await;
        let context = Context::new(ContextParts { bus: bus.clone(), ..fixture.parts.clone() });
        let consumers = handlers::consumers(&context, 4);
        let worker = consumers.into_iter().map(|(what, handler)| consume(&bus, what, handler)).collect();
        Self { fixture, context, bus, corner, worker }
    }

    async fn take(&self, payload: &[u8]) -> Answered {
        self.context.take_callback(&self.fixture.app_id(), payload, Instant::now()).await
    }

    async fn state_of(&self, invited: &Invited) -> SecretString {
        self.fixture.session(invited.session_id).await.consent.unwrap().state
    }

    async fn land(&self, state: &SecretString, consent: Consent) -> Landing {
        self.context.take_redirect(state, consent).await.unwrap()
    }

    async fn finish(self) {
        for consumer in self.worker {
            consumer.stop().await;
        }
        self.bus.close().await;
        self.corner.teardown().await;
    }
}

fn landed(landing: Landing) -> SessionState {
    match landing {
        Landing::Session(session) => session.state,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn callback_is_answered_by_worker() {
    let live = Live::new().await;
    let invited = live.fixture.invited(0).await;
    let payload = live.fixture.callback(&invited, "authorize", false).await;
    let answered = live.take(&payload).await;
    assert_eq!(
        (answered.outcome, answered.shows),
        ("in_time", Some((invited.session_id, CardFace::Processing)))
    );
    assert!(answered.answer.unwrap()["card"].is_object());
    live.context.answer_sent(&live.fixture.app_id(), answered.shows.unwrap()).await.unwrap();
    assert_eq!(live.fixture.session(invited.session_id).await.card_face, Some(CardFace::Processing));

    // With a code inside, and the same push once more.
    let payload = live.fixture.callback(&invited, "authorize", true).await;
    for _ in 0..2 {
        let answered = live.take(&payload).await;
        assert_eq!(answered.shows, Some((invited.session_id, CardFace::Done)));
        assert_eq!(answered.answer.unwrap()["card"]["data"]["header"]["template"], "green");
    }
    assert_eq!(live.fixture.sim.stats().calls(Endpoint::TokenCode), 1);
    live.finish().await;
}

#[tokio::test]
async fn callback_in_any_form_is_answered_by_worker() {
    let live = Live::new().await;
    let mut cards = Vec::new();
    for form in ["nested", "version1", "by_name", "old_card"] {
        let invited = live.fixture.invited(0).await;
        let payload = live.fixture.callback(&invited, "cancel", false).await;
        let mut push: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let mut event = push["event"].take();
        event.as_object_mut().unwrap().remove("token");
        let push = match form {
            "nested" => {
                event["operator"] = json!({ "operator_id": event["operator"] });
                json!({ "header": { "event_type": "card.action.trigger", "create_time": {} }, "event": event })
            }
            "version1" => json!({ "uuid": "e-v1", "type": "event_callback", "event": event }),
            "by_name" => {
                event["action"] = json!({
                    "tag": "button", "name": "cancel", "value": { "session_id": invited.session_id },
                    "form_value": { "reason": "no" },
                });
                json!({ "header": { "event_type": "card.action.trigger", "event_id": "e-n" }, "event": event })
            }
            _ => json!({
                "open_id": invited.open_id, "open_message_id": invited.message_id, "tenant_key": "t",
                "token": "c-1", "action": event["action"],
            }),
        };
        let answered = live.take(push.to_string().as_bytes()).await;
        assert_eq!(answered.outcome, "in_time", "{form}");
        assert_eq!(live.fixture.session(invited.session_id).await.state, SessionState::Rejected, "{form}");
        let answer = answered.answer.unwrap();
        assert!(answer["toast"]["content"].is_string(), "{form}: {answer}");
        // The answer to a historical callback cannot hold the card.
        assert_eq!(answer.get("card").is_some(), form != "old_card", "{form}");
        assert_eq!(answered.shows.is_some(), form != "old_card", "{form}");
        cards.push(invited.message_id);
    }
    let declined = |sim: &Sim| {
        let colours =
            cards.iter().map(|card| sim.card(card.as_str()).map(|card| card["header"]["template"].clone()));
        colours.flatten().all(|colour| colour == "grey").then_some(())
    };
    live.fixture.sim.wait_until(PATIENCE, declined).await.unwrap();
    live.finish().await;
}

#[tokio::test]
async fn answer_sent_after_end_updates_card() {
    let live = Live::new().await;
    let invited = live.fixture.invited(0).await;
    let cancel = live.fixture.click(&invited, CardActionKind::Cancel);
    reply(live.fixture.deliver(cancel).await);
    live.fixture.bus.take::<SessionEnded>();
    // The answer with the face "processing" went out after the session had ended.
    let shown = (invited.session_id, CardFace::Processing);
    live.context.answer_sent(&live.fixture.app_id(), shown).await.unwrap();
    let declined = |card: &serde_json::Value| card["header"]["template"] == "grey";
    live.fixture.sim.wait_for_card(invited.open_id.as_str(), PATIENCE, declined).await.unwrap();
    live.finish().await;
}

#[tokio::test]
async fn callback_without_worker_is_answered_late_and_kept() {
    let policy = Policy { answer_deadline: Duration::from_millis(200), ..policy(100) };
    let live = Live::with(Setup { policy, ..Setup::default() }).await;
    let invited = live.fixture.invited(0).await;
    let payload = live.fixture.callback(&invited, "cancel", false).await;
    let Live { fixture, context, bus, corner, worker } = live;
    for consumer in worker {
        consumer.stop().await;
    }
    let received = Instant::now();
    let answered = context.take_callback(&fixture.app_id(), &payload, received).await;
    assert_eq!((answered.outcome, answered.shows), ("late", None));
    assert!(answered.answer.unwrap()["toast"]["content"].is_string());
    assert!(received.elapsed() < Duration::from_secs(3), "Lark waits no longer");

    // The click was kept: a worker that comes back has it.
    let consumers = handlers::consumers(&context, 4);
    let worker: Vec<_> = consumers.into_iter().map(|(what, handler)| consume(&bus, what, handler)).collect();
    let ended = context.wait_for_end(&ACTOR, context.now(), invited.session_id, PATIENCE).await.unwrap();
    assert_eq!(ended.state, SessionState::Rejected);
    // The last message of the session: without it a queue would not be empty at the end.
    eventually("the card shows the end", async || fixture.colour(&invited) == "grey").await;
    Live { fixture, context, bus, corner, worker }.finish().await;
}

#[tokio::test]
async fn callback_without_bus_asks_to_click_again() {
    let fixture = Fixture::new().await;
    let invited = fixture.invited(0).await;
    let payload = fixture.callback(&invited, "authorize", false).await;
    fixture.bus.go_down();
    let answered = fixture.context.take_callback(&fixture.app_id(), &payload, Instant::now()).await;
    assert_eq!(answered.outcome, "publish_failed");
    assert!(answered.answer.unwrap()["toast"]["content"].as_str().unwrap().contains("click again"));
    // An unrecognized click could not be kept either.
    let unknown = String::from_utf8(payload).unwrap().replace("\"authorize\"", "\"another\"");
    let answered = fixture.context.take_callback(&fixture.app_id(), unknown.as_bytes(), Instant::now()).await;
    assert_eq!(answered.outcome, "publish_failed");
    assert!(answered.answer.unwrap()["toast"]["content"].as_str().unwrap().contains("click again"));
    // An event, and what is not even that, is refused instead: Lark pushes it again.
    let event =
        br#"{"schema":"2.0","header":{"event_id":"e-1","event_type":"im.message.receive_v1"},"event":{}}"#;
    for push in [&event[..], b"not JSON"] {
        let answered = fixture.context.take_callback(&fixture.app_id(), push, Instant::now()).await;
        assert_eq!((answered.outcome, answered.answer), ("publish_failed", None));
    }
}

#[tokio::test]
async fn callback_unrecognized_is_kept_sealed() {
    let live = Live::new().await;
    let click = |value: &str| {
        format!(
            r#"{{"schema":"2.0","header":{{"event_id":"e-{}","event_type":"card.action.trigger"}},"event":{{"operator":{{"open_id":"ou_1"}},"token":"c-secret","action":{{"value":{value},"tag":"button"}},"context":{{"open_message_id":"om_1"}}}}}}"#,
            value.len()
        )
    };
    let unknown = r#"{"larkauth":2,"authorization_code":"s3cret"}"#;
    let payloads = [click(unknown), click(&json!(unknown).to_string()), "s3cret, not JSON".to_owned()];
    for payload in payloads {
        let answered = live.take(payload.as_bytes()).await;
        assert_eq!(answered.outcome, "unrecognized");
        assert!(answered.answer.unwrap()["toast"].is_object(), "{payload}");
        let dead = live.corner.dead_letter().await;
        let text = String::from_utf8(dead.body.to_vec()).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        let letter = Envelope::<UnrecognizedCallback>::decode(text.as_bytes()).unwrap();
        let sealed = Sealed::from_text(&letter.data.payload.0).unwrap();
        let context = ["message.unrecognized_callback", live.fixture.app_id().as_str().to_owned().leak()];
        let opened = live.fixture.parts.cipher.open(&context, &sealed.0).unwrap();
        assert_eq!(opened.expose_secret(), payload, "an operator can look at it");
    }
    live.finish().await;
}

#[tokio::test]
async fn callback_foreign_without_queue_is_acknowledged_and_not_kept() {
    let live = Live::new().await;
    for n in 0..3 {
        let (event, click) = (relay::event(n, "im.message.receive_v1"), relay::click(n));
        for payload in [event, click] {
            let received = Instant::now();
            let answered = live.take(payload.as_bytes()).await;
            assert_eq!((answered.outcome, answered.answer), ("foreign", Some(json!({}))));
            assert!(received.elapsed() < PATIENCE, "no answer is awaited");
        }
    }
    // No dead letter: `finish` looks.
    live.finish().await;
}

#[tokio::test]
async fn redirect_repeated_returns_same_outcome() {
    let live = Live::new().await;
    let invited = live.fixture.invited(0).await;
    let state = live.state_of(&invited).await;
    let code = live.fixture.consent(&invited, 0).await;
    for _ in 0..3 {
        assert_eq!(landed(live.land(&state, Consent::Code(code.clone())).await), SessionState::Completed);
    }
    // A late refusal, and another code, for what is over: the same page.
    assert_eq!(landed(live.land(&state, Consent::Denied).await), SessionState::Completed);
    assert_eq!(landed(live.land(&state, Consent::Code("another".into())).await), SessionState::Completed);
    assert_eq!(live.fixture.sim.stats().calls(Endpoint::TokenCode), 1);
    assert_eq!(live.fixture.sim.violations(), []);
    live.finish().await;
}

#[tokio::test]
async fn redirect_with_unknown_or_used_state_has_no_effect() {
    let live = Live::new().await;
    let unknown = live.land(&SecretString::from("never given out"), Consent::Code("code".into())).await;
    assert!(matches!(unknown, Landing::UnknownState));

    let invited = live.fixture.invited(0).await;
    let state = live.state_of(&invited).await;
    assert!(matches!(live.land(&state, Consent::Error).await, Landing::ConsentFailed));
    assert_eq!(
        live.fixture.session(invited.session_id).await.state,
        SessionState::Pending,
        "it is still open"
    );

    // The state works for one code, from the claim of its exchange on.
    let (claim, minute) = (uuid::Uuid::from_u128(1), Duration::from_secs(60));
    live.fixture.parts.store.claim_exchange(invited.session_id, None, claim, minute).await.unwrap();
    let code = live.fixture.consent(&invited, 0).await;
    assert!(matches!(live.land(&state, Consent::Code(code)).await, Landing::StateUsed));
    assert_eq!(live.fixture.sim.stats().calls(Endpoint::TokenCode), 0);

    live.fixture.clock.advance(Duration::from_secs(600));
    assert_eq!(landed(live.land(&state, Consent::Code("late".into())).await), SessionState::Expired);
    live.finish().await;
}

#[tokio::test]
async fn redirect_with_denial_rejects_session() {
    let live = Live::new().await;
    let invited = live.fixture.invited(0).await;
    let state = live.state_of(&invited).await;
    for _ in 0..2 {
        assert_eq!(landed(live.land(&state, Consent::Denied).await), SessionState::Rejected);
    }
    let declined = |card: &serde_json::Value| card["header"]["template"] == "grey";
    live.fixture.sim.wait_for_card(invited.open_id.as_str(), PATIENCE, declined).await.unwrap();
    live.finish().await;
}
