//! With a real bus: what a callback and a redirect come back with.

use std::{sync::Arc, time::Duration};

use larkauth_auth::{
    Context, ContextParts,
    callbacks::Answered,
    handlers,
    redirect::{Consent, Landing},
};
use larkauth_contracts::message::{CardActionKind, Envelope, SessionEnded, UnrecognizedCallback};
use larkauth_lark_sim::Endpoint;
use larkauth_messaging::{
    Bus,
    testing::{Consuming, TestBus, consume},
};
use larkauth_models::{CardFace, Clock, ExposeSecret, SecretString, SessionState};
use larkauth_storage::Sealed;
use tokio::time::Instant;

use crate::fixture::{ACTOR, Invited, Stage, reply};

/// A stage whose messages are handled.
struct Live {
    stage: Stage,
    context: Context,
    bus: Arc<dyn Bus>,
    corner: TestBus,
    worker: Vec<Consuming>,
}

impl Live {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let corner = TestBus::fast().await;
        let bus: Arc<dyn Bus> = corner.bus().await;
        let context = Context::new(ContextParts { bus: bus.clone(), ..stage.parts.clone() });
        let consumers = handlers::consumers(&context, 4);
        let worker = consumers.into_iter().map(|(what, handler)| consume(&bus, what, handler)).collect();
        Self { stage, context, bus, corner, worker }
    }

    async fn take(&self, payload: &[u8]) -> Answered {
        self.context.take_callback(&self.stage.app_id(), payload, Instant::now()).await
    }

    async fn state_of(&self, invited: &Invited) -> SecretString {
        self.stage.session(invited.session_id).await.consent.unwrap().state
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
async fn a_click_is_answered_by_the_worker() {
    let live = Live::new().await;
    let invited = live.stage.invited(0).await;
    let payload = live.stage.callback(&invited, "authorize", false).await;
    let answered = live.take(&payload).await;
    assert_eq!(
        (answered.outcome, answered.shows),
        ("in_time", Some((invited.session_id, CardFace::Processing)))
    );
    assert!(answered.answer.unwrap()["card"].is_object());
    live.context.answer_sent(&live.stage.app_id(), answered.shows.unwrap()).await.unwrap();
    assert_eq!(live.stage.session(invited.session_id).await.card_face, Some(CardFace::Processing));

    // With a code inside, and the same push once more.
    let payload = live.stage.callback(&invited, "authorize", true).await;
    for _ in 0..2 {
        let answered = live.take(&payload).await;
        assert_eq!(answered.shows, Some((invited.session_id, CardFace::Done)));
        assert_eq!(answered.answer.unwrap()["card"]["data"]["header"]["template"], "green");
    }
    assert_eq!(live.stage.sim.stats().calls(Endpoint::TokenCode), 1);
    live.finish().await;
}

#[tokio::test]
async fn an_answer_that_was_overtaken_is_mended() {
    let live = Live::new().await;
    let invited = live.stage.invited(0).await;
    let cancel = live.stage.click(&invited, CardActionKind::Cancel);
    reply(live.stage.deliver(cancel).await);
    live.stage.bus.take::<SessionEnded>();
    // The answer with the face "processing" went out after the session had ended.
    let shown = (invited.session_id, CardFace::Processing);
    live.context.answer_sent(&live.stage.app_id(), shown).await.unwrap();
    let declined = |card: &serde_json::Value| card["header"]["template"] == "grey";
    live.stage.sim.wait_for_card(invited.open_id.as_str(), Duration::from_secs(10), declined).await.unwrap();
    live.finish().await;
}

#[tokio::test]
async fn without_a_worker_the_person_is_told_to_wait() {
    let live = Live::new().await;
    let invited = live.stage.invited(0).await;
    let payload = live.stage.callback(&invited, "cancel", false).await;
    let Live { stage, context, bus, corner, worker } = live;
    for consumer in worker {
        consumer.stop().await;
    }
    let received = Instant::now();
    let answered = context.take_callback(&stage.app_id(), &payload, received).await;
    assert_eq!((answered.outcome, answered.shows), ("late", None));
    assert!(answered.answer.unwrap()["toast"]["content"].is_string());
    assert!(received.elapsed() < Duration::from_secs(3), "Lark waits no longer");

    // The click was kept: a worker that comes back has it.
    let consumers = handlers::consumers(&context, 4);
    let worker: Vec<_> = consumers.into_iter().map(|(what, handler)| consume(&bus, what, handler)).collect();
    let ended = context
        .wait_for_end(&ACTOR, context.now(), invited.session_id, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(ended.state, SessionState::Rejected);
    Live { stage, context, bus, corner, worker }.finish().await;
}

#[tokio::test]
async fn without_a_bus_the_person_is_asked_to_click_again() {
    let stage = Stage::new().await;
    let invited = stage.invited(0).await;
    let payload = stage.callback(&invited, "authorize", false).await;
    stage.bus.go_down();
    let answered = stage.context.take_callback(&stage.app_id(), &payload, Instant::now()).await;
    assert_eq!(answered.outcome, "publish_failed");
    assert!(answered.answer.unwrap()["toast"]["content"].as_str().unwrap().contains("click again"));
    // A click that nobody knows could not be kept either.
    let unknown = String::from_utf8(payload).unwrap().replace("\"authorize\"", "\"another\"");
    let answered = stage.context.take_callback(&stage.app_id(), unknown.as_bytes(), Instant::now()).await;
    assert_eq!(answered.outcome, "publish_failed");
    assert!(answered.answer.unwrap()["toast"]["content"].as_str().unwrap().contains("click again"));
    // An event, and what is not even that, is refused instead: Lark pushes it again.
    let event =
        br#"{"schema":"2.0","header":{"event_id":"e-1","event_type":"im.message.receive_v1"},"event":{}}"#;
    for push in [&event[..], b"not JSON"] {
        let answered = stage.context.take_callback(&stage.app_id(), push, Instant::now()).await;
        assert_eq!((answered.outcome, answered.answer), ("publish_failed", None));
    }
}

#[tokio::test]
async fn what_nobody_knows_is_answered_politely_and_kept_sealed() {
    let live = Live::new().await;
    let click = |value: &str| {
        format!(
            r#"{{"schema":"2.0","header":{{"event_id":"e-{}","event_type":"card.action.trigger"}},"event":{{"operator":{{"open_id":"ou_1"}},"token":"c-secret","action":{{"value":{value},"tag":"button"}},"context":{{"open_message_id":"om_1"}}}}}}"#,
            value.len()
        )
    };
    let payloads = [
        (click(r#"{"somebody":"elses","authorization_code":"s3cret"}"#), true),
        (click(r#""s3cret""#), true),
        ("s3cret, not JSON".to_owned(), true),
        (r#"{"schema":"2.0","header":{"event_id":"e-9","event_type":"im.message.receive_v1"},"event":{"text":"s3cret"}}"#.to_owned(), false),
    ];
    for (payload, is_card) in payloads {
        let answered = live.take(payload.as_bytes()).await;
        assert_eq!(answered.outcome, "unrecognized");
        assert_eq!(answered.answer.unwrap()["toast"].is_object(), is_card, "{payload}");
        let dead = live.corner.dead_letter().await;
        let text = String::from_utf8(dead.body.to_vec()).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        let letter = Envelope::<UnrecognizedCallback>::decode(text.as_bytes()).unwrap();
        let sealed = Sealed::from_text(&letter.data.payload.0).unwrap();
        let context = ["message.unrecognized_callback", live.stage.app_id().as_str().to_owned().leak()];
        let opened = live.stage.parts.cipher.open(&context, &sealed.0).unwrap();
        assert_eq!(opened.expose_secret(), payload, "an operator can look at it");
    }
    live.finish().await;
}

#[tokio::test]
async fn a_redirect_waits_for_the_outcome_and_may_come_again() {
    let live = Live::new().await;
    let invited = live.stage.invited(0).await;
    let state = live.state_of(&invited).await;
    let code = live.stage.consent(&invited, 0).await;
    for _ in 0..3 {
        assert_eq!(landed(live.land(&state, Consent::Code(code.clone())).await), SessionState::Completed);
    }
    // A late refusal, and another code, for what is over: the same page.
    assert_eq!(landed(live.land(&state, Consent::Denied).await), SessionState::Completed);
    assert_eq!(landed(live.land(&state, Consent::Code("another".into())).await), SessionState::Completed);
    assert_eq!(live.stage.sim.stats().calls(Endpoint::TokenCode), 1);
    assert_eq!(live.stage.sim.violations(), []);
    live.finish().await;
}

#[tokio::test]
async fn a_redirect_that_does_not_belong_here_has_no_effect() {
    let live = Live::new().await;
    let unknown = live.land(&SecretString::from("never given out"), Consent::Code("code".into())).await;
    assert!(matches!(unknown, Landing::UnknownState));

    let invited = live.stage.invited(0).await;
    let state = live.state_of(&invited).await;
    assert!(matches!(live.land(&state, Consent::Error).await, Landing::ConsentFailed));
    assert_eq!(live.stage.session(invited.session_id).await.state, SessionState::Pending, "it is still open");

    // The state works for one code, from when somebody exchanges it.
    let (claim, now) = (uuid::Uuid::from_u128(1), live.stage.clock.now());
    let until = now + chrono::TimeDelta::seconds(60);
    live.stage.parts.store.claim_exchange(invited.session_id, None, claim, now, until).await.unwrap();
    let code = live.stage.consent(&invited, 0).await;
    assert!(matches!(live.land(&state, Consent::Code(code)).await, Landing::StateUsed));
    assert_eq!(live.stage.sim.stats().calls(Endpoint::TokenCode), 0);

    live.stage.clock.advance(Duration::from_secs(600));
    assert_eq!(landed(live.land(&state, Consent::Code("late".into())).await), SessionState::Expired);
    live.finish().await;
}

#[tokio::test]
async fn a_refusal_on_the_page_comes_back_as_declined() {
    let live = Live::new().await;
    let invited = live.stage.invited(0).await;
    let state = live.state_of(&invited).await;
    for _ in 0..2 {
        assert_eq!(landed(live.land(&state, Consent::Denied).await), SessionState::Rejected);
    }
    let declined = |card: &serde_json::Value| card["header"]["template"] == "grey";
    live.stage.sim.wait_for_card(invited.open_id.as_str(), Duration::from_secs(10), declined).await.unwrap();
    live.finish().await;
}
