use std::sync::{Arc, atomic::Ordering};

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use larkauth_contracts::{
    message::{CardActionTriggered, Message, Reply, UnrecognizedCallback},
    problem::ProblemCode,
    topology::Queue,
};
use larkauth_lark::callback::{encrypt, sign};
use larkauth_messaging::{
    Consume, Disposition,
    testing::{TestBus, consume, handler},
};
use larkauth_models::{AuthMethod, CardFace, SecretString, SessionId, SessionState};
use serde_json::{Value, json};

use super::world::{APP, Answer, ENCRYPT_KEY, FakeBus, PERSON, World, app_id, application, now};
use larkauth_storage::testing::act;

pub(super) fn click(session_id: SessionId, action: &str) -> Value {
    json!({
        "schema": "2.0",
        "header": {
            "event_id": format!("ev-{session_id}"), "token": "verification token", "create_time": "1603977298000",
            "event_type": "card.action.trigger", "tenant_key": "t", "app_id": APP,
        },
        "event": {
            "operator": {"open_id": PERSON, "union_id": "on_1"},
            "token": "c-1",
            "action": {"tag": "button", "value": {"larkauth": 1, "session_id": session_id, "action": action}},
            "context": {"open_message_id": "om_1", "open_chat_id": "oc_1"},
        },
    })
}

fn an_event() -> Value {
    json!({
        "schema": "2.0",
        "header": {"event_id": "ev-1", "token": "verification token", "event_type": "im.message.receive_v1", "app_id": APP},
        "event": {},
    })
}

fn encrypted(plain: &Value) -> String {
    let key = SecretString::from(ENCRYPT_KEY);
    json!({"encrypt": encrypt(&key, [5; 16], plain.to_string().as_bytes())}).to_string()
}

fn signed(path: &str, nonce: &str, plain: &Value) -> Request<Body> {
    let (body, timestamp) = (encrypted(plain), now().timestamp().to_string());
    let signature = sign(&SecretString::from(ENCRYPT_KEY), &timestamp, nonce, body.as_bytes());
    Request::post(path)
        .header("content-type", "application/json")
        .header("x-lark-request-timestamp", timestamp)
        .header("x-lark-request-nonce", nonce)
        .header("x-lark-signature", signature)
        .body(Body::from(body))
        .unwrap()
}

fn path() -> String {
    format!("/lark/callback/{APP}")
}

fn toast(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json::<Value>()["toast"]["i18n"]["en_us"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn url_verification_while_inactive_is_answered() {
    let world = World::new().await;
    let check = json!({"type": "url_verification", "challenge": "ch4llenge", "token": "verification token"});
    let answer = world.send(Request::post(path()).body(Body::from(encrypted(&check))).unwrap()).await;
    assert_eq!((answer.status, answer.json::<Value>()), (StatusCode::OK, json!({"challenge": "ch4llenge"})));
}

#[tokio::test]
async fn callback_unverified_is_refused() {
    let world = World::new().await;
    let refused = async |request: Request<Body>| {
        let problem = world.send(request).await.problem();
        assert_eq!(problem.code, ProblemCode::CallbackRejected);
        // Why is for the log.
        assert!(problem.detail.unwrap().contains("cannot be verified"));
    };
    refused(Request::post(path()).body(Body::from(encrypted(&an_event()))).unwrap()).await;
    refused(Request::post(path()).body(Body::from(an_event().to_string())).unwrap()).await;
    refused(Request::post(path()).body(Body::from("not json")).unwrap()).await;
    let mut forged = signed(&path(), "n1", &an_event());
    *forged.body_mut() = Body::from(encrypted(&json!({})));
    refused(forged).await;

    let first = world.send(signed(&path(), "n2", &an_event())).await;
    assert_eq!((first.status, first.text.as_str()), (StatusCode::OK, "{}"));
    refused(signed(&path(), "n2", &an_event())).await;

    let too_large = Request::post(path()).body(Body::from(vec![b'x'; (1 << 20) + 1])).unwrap();
    assert_eq!(world.send(too_large).await.problem().code, ProblemCode::PayloadTooLarge);
    let unknown = signed("/lark/callback/cli_fedcba9876543210", "n3", &an_event());
    assert_eq!(world.send(unknown).await.problem().code, ProblemCode::AppNotFound);
}

#[tokio::test]
async fn callback_of_application_without_encrypt_key_is_refused() {
    let bus = Arc::new(FakeBus::default());
    let world = World::with_bus(bus.clone()).await;
    let keyless = larkauth_models::Application { encrypt_key: None, ..application(APP) };
    world.store.put_application(&keyless, &act(now())).await.unwrap();
    let post = async |plain: Value| {
        let mut plain = plain;
        plain["header"]["token"] = json!("verification token");
        world.send(Request::post(path()).body(Body::from(plain.to_string())).unwrap()).await
    };
    assert_eq!(post(an_event()).await.problem().code, ProblemCode::CallbackRejected);
    let session = world.session(AuthMethod::HttpCallback).await;
    let answer = post(click(session.id, "authorize")).await;
    assert_eq!(answer.problem().code, ProblemCode::CallbackRejected);
    assert_eq!((bus.offered.lock().unwrap().len(), bus.published.lock().unwrap().len()), (0, 0));
}

#[tokio::test]
async fn callback_of_other_application_becomes_dead_letter() {
    let bus = Arc::new(FakeBus::default());
    let world = World::with_bus(bus.clone()).await;
    let session = world.session(AuthMethod::HttpCallback).await;
    for (nonce, mut plain) in [("n1", click(session.id, "authorize")), ("n2", an_event())] {
        plain["header"]["app_id"] = json!("cli_fedcba9876543210");
        assert_eq!(world.send(signed(&path(), nonce, &plain)).await.status, StatusCode::OK);
    }
    let published = bus.published.lock().unwrap();
    assert!(published.iter().all(|message| message.r#type == UnrecognizedCallback::TYPE));
    assert_eq!((bus.offered.lock().unwrap().len(), published.len()), (0, 2));
}

#[tokio::test]
async fn click_of_disabled_application_gets_toast_and_event_is_refused() {
    let bus = Arc::new(FakeBus::default());
    let world = World::with_bus(bus.clone()).await;
    let session = world.session(AuthMethod::HttpCallback).await;
    world.store.set_application_enabled(&app_id(), false, &act(now())).await.unwrap();
    let answer = world.send(signed(&path(), "n1", &click(session.id, "authorize"))).await;
    assert!(toast(&answer).contains("switched off"), "{}", answer.text);
    assert_eq!(world.send(signed(&path(), "n2", &an_event())).await.problem().code, ProblemCode::AppDisabled);
    // Only Lark learns that.
    let unverified = Request::post(path()).body(Body::from(an_event().to_string())).unwrap();
    assert_eq!(world.send(unverified).await.problem().code, ProblemCode::CallbackRejected);
    assert!(bus.offered.lock().unwrap().is_empty() && bus.published.lock().unwrap().is_empty());
}

#[tokio::test]
async fn click_with_broker_down_gets_toast() {
    let world = World::new().await;
    let session = world.session(AuthMethod::HttpCallback).await;
    let answer = world.send(signed(&path(), "n1", &click(session.id, "authorize"))).await;
    assert!(toast(&answer).contains("click again"));
}

#[tokio::test]
async fn callback_refused_then_pushed_again_is_handled_once() {
    let bus = Arc::new(FakeBus::default());
    let world = World::with_bus(bus.clone()).await;
    bus.down.store(true, Ordering::Relaxed);
    let push = async || world.send(signed(&path(), "n1", &an_event())).await;
    assert_eq!(push().await.problem().code, ProblemCode::Unavailable);
    bus.down.store(false, Ordering::Relaxed);
    assert_eq!(push().await.status, StatusCode::OK);
    assert_eq!(push().await.problem().code, ProblemCode::CallbackRejected);
    assert_eq!((bus.offered.lock().unwrap().len(), bus.published.lock().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn short_path_serves_only_application() {
    let world = World::new().await;
    assert_eq!(world.send(signed("/lark/callback", "n1", &an_event())).await.status, StatusCode::OK);
    world.store.put_application(&application("cli_aaaaaaaaaaaaaaaa"), &act(now())).await.unwrap();
    let answer = world.send(signed("/lark/callback", "n2", &an_event())).await;
    assert_eq!(answer.problem().code, ProblemCode::NotFound);
}

/// Answers like a worker: the card is shown as declined.
pub(super) fn worker() -> Arc<dyn larkauth_messaging::Handler> {
    handler(|delivery| async move {
        assert_eq!(delivery.r#type, CardActionTriggered::TYPE);
        let envelope: Value = serde_json::from_slice(&delivery.body).unwrap();
        let session_id = envelope["data"]["session_id"].as_str().unwrap().parse().unwrap();
        let reply = Reply {
            answer: Some(json!({"toast": {"type": "info", "content": "from the worker"}})),
            shows: Some((session_id, CardFace::Declined)),
            ..Reply::default()
        };
        Disposition::Done { reply: Some(serde_json::to_vec(&reply).unwrap().into()) }
    })
}

pub(super) fn card_actions() -> Consume {
    Consume {
        queue: Queue::CardActions,
        concurrency: 4,
        handler_deadline: std::time::Duration::from_secs(10),
    }
}

#[tokio::test]
async fn worker_answer_is_sent_and_recorded() {
    let broker = TestBus::create().await;
    let bus = broker.bus().await;
    let consuming = consume(&bus, card_actions(), worker());
    let mut world = World::with_bus(bus.clone()).await;
    let session = world.session(AuthMethod::HttpCallback).await;
    let answer = world.send(signed(&path(), "n1", &click(session.id, "cancel"))).await;
    assert_eq!(answer.json::<Value>()["toast"]["content"], "from the worker");

    // HTTP does not say whether it arrived, so the final face is not recorded as shown.
    world.record_sent_answers().await;
    let session = world.context.session(&crate::actor::ACTOR, now(), session.id).await.unwrap();
    assert_eq!((session.card_face, session.state), (Some(CardFace::Invitation), SessionState::Pending));
    consuming.stop().await;
}
