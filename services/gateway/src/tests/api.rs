//! Sessions, mistakes, limits and failures.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode, routing::get};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use larkauth_contracts::{
    problem::ProblemCode,
    rest::{SessionPage, SessionView},
};
use larkauth_messaging::testing::eventually;
use larkauth_models::{AuthMethod, SessionState, Timestamp};
use larkauth_storage::{SessionEnding, testing::act};
use serde_json::{Value, json};

use super::world::{APP, FakeBus, PERSON, World, application, now, request};
use crate::{actor::ACTOR, problem::Audience, state::LONG_POLLS};

/// Resolves a reference as a client does.
fn resolved(path: &str, reference: &str) -> String {
    let base = url::Url::parse(&format!("http://gateway{path}")).unwrap();
    base.join(reference).unwrap().path().to_owned()
}

#[tokio::test]
async fn create_session_is_found_by_id_and_in_list() {
    let world = World::new().await;
    let body = json!({"app_id": APP, "open_id": PERSON, "card": {"custom_message": "Hello"}});
    let created = world.post("/v1/auth/sessions", &body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    let session: SessionView = created.json();
    assert_eq!(session.auth_method, AuthMethod::WebsocketCard);
    assert_eq!((session.state, session.card_sent), (SessionState::Pending, false));
    assert_eq!(created.header("cache-control"), "no-store");
    assert_eq!(created.header("x-content-type-options"), "nosniff");
    let found = world.get(&resolved("/v1/auth/sessions", created.header("location"))).await;
    assert_eq!(found.json::<SessionView>(), session);
    assert!(found.json::<SessionView>().authorize_url.is_none());
}

/// PostgreSQL stores no NUL, and its years end where chrono's go on.
#[tokio::test]
async fn create_session_with_unstorable_text_is_refused() {
    let world = World::new().await;
    let body = json!({"app_id": APP, "open_id": PERSON, "card": {"custom_message": "a\0b"}});
    let said = world.post("/v1/auth/sessions", &body).await.summary();
    assert!(said.starts_with("400 invalid_request: card.custom_message:"), "{said}");
    let body = json!({"app_id": APP, "open_id": PERSON, "card": {"custom_message": "two\nlines\tand a tab"}});
    assert_eq!(world.post("/v1/auth/sessions", &body).await.status, StatusCode::CREATED);
    for time in [Timestamp::MIN_UTC, Timestamp::MAX_UTC] {
        let cursor = format!("{}.00000000-0000-0000-0000-000000000001", time.timestamp_micros());
        let cursor = BASE64_URL_SAFE_NO_PAD.encode(cursor);
        let said = world.get(&format!("/v1/auth/sessions?cursor={cursor}")).await.summary();
        assert!(said.starts_with("400 invalid_request: cursor:"), "{said}");
    }
}

#[tokio::test]
async fn create_session_oauth_answers_authorize_url() {
    let world = World::new().await;
    let body = json!({"app_id": APP, "user_id": "u1", "auth_method": "oauth"});
    let session: SessionView = world.post("/v1/auth/sessions", &body).await.json();
    let url = session.authorize_url.unwrap();
    assert!(
        url.starts_with("http://127.0.0.1:1/open-apis/authen/v1/authorize?") && url.contains("state="),
        "{url}"
    );
}

#[tokio::test]
async fn invalid_request_names_its_mistake() {
    let world = World::new().await;
    let too_large = json!({"app_id": APP, "open_id": PERSON, "scopes": ["x".repeat(70_000)]});
    let send = async |content_type: &'static str, body: &'static str| {
        let request = request("POST", "/v1/auth/sessions").header("content-type", content_type);
        world.send(request.body(Body::from(body)).unwrap()).await.summary()
    };
    let id = world.context.new_uuid();
    let said = [
        world.post("/v1/auth/sessions", &json!({"app_id": "cli_bad", "open_id": PERSON})).await.summary(),
        world.post("/v1/auth/sessions", &json!({"app_id": APP})).await.summary(),
        world
            .post("/v1/auth/sessions", &json!({"app_id": APP, "open_id": PERSON, "user_id": "u1"}))
            .await
            .summary(),
        world
            .post("/v1/auth/sessions", &json!({"app_id": APP, "open_id": PERSON, "colour": "red"}))
            .await
            .summary(),
        world
            .post(
                "/v1/auth/sessions",
                &json!({"app_id": APP, "open_id": PERSON, "auth_method": "device_code"}),
            )
            .await
            .summary(),
        world
            .post("/v1/auth/sessions", &json!({"app_id": "cli_fedcba9876543210", "open_id": PERSON}))
            .await
            .summary(),
        world.post("/v1/auth/sessions", &too_large).await.summary(),
        send("application/json", "{\"app_id\": \"s3cret").await,
        send("text/plain", "{}").await,
        world.get("/v1/auth/sessions/not-a-uuid").await.summary(),
        world.get("/v1/auth/sessions/%ff").await.summary(),
        world.get(&format!("/v1/auth/sessions/{id}")).await.summary().replace(&id.to_string(), "<id>"),
        world.get(&format!("/v1/auth/sessions/{id}?wait=51")).await.summary(),
        world.get(&format!("/v1/auth/sessions/{id}?wait=soon")).await.summary(),
        world.get("/v1/auth/sessions?limit=0").await.summary(),
        world.get("/v1/auth/sessions?cursor=nonsense").await.summary(),
        world.get("/v1/auth/sessions?state=done").await.summary(),
        world.get("/v1/auth/sessions?colour=s3cret").await.summary(),
        world.get(&format!("/v1/apps/{APP}/users/{PERSON}/token?min_validity=3601")).await.summary(),
        world.get(&format!("/v1/apps/{APP}/users/bad%20id/token")).await.summary(),
        world.get("/v1/nothing").await.summary(),
        world.send(request("DELETE", "/v1/auth/sessions").body(Body::empty()).unwrap()).await.summary(),
        world.get(&format!("/v1/auth/sessions?cursor={}", "x".repeat(9000))).await.summary(),
        world
            .send(
                request("GET", "/v1/auth/sessions")
                    .header("x-large", "x".repeat(20_000))
                    .body(Body::empty())
                    .unwrap(),
            )
            .await
            .summary(),
    ];
    let said = said.join("\n");
    assert!(!said.contains("s3cret"), "{said}");
    insta::assert_snapshot!(said);
    let allow = world.send(request("DELETE", "/v1/auth/sessions").body(Body::empty()).unwrap()).await;
    assert!(allow.header("allow").contains("POST"), "{:?}", allow.headers);
}

#[tokio::test]
async fn request_id_harmless_is_kept() {
    let world = World::new().await;
    let id_for = async |given: &str| {
        let request =
            request("GET", "/v1/nothing").header("x-request-id", given).body(Body::empty()).unwrap();
        let answer = world.send(request).await;
        answer.problem();
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(id_for("abc-1.2_Z").await, "abc-1.2_Z");
    for bad in ["", "a b", "a\"b", &"x".repeat(65)] {
        let id = id_for(bad).await;
        assert!(id != bad && id.len() == 36, "{id}");
    }
}

#[tokio::test]
async fn list_sessions_pages_cover_all() {
    let world = World::new().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.insert(0, world.session(AuthMethod::WebsocketCard).await.id);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for size in [2, 2, 1] {
        let page: SessionPage =
            world.get(&format!("/v1/auth/sessions?app_id={APP}&limit=2{cursor}")).await.json();
        assert_eq!(page.items.len(), size);
        seen.extend(page.items.iter().map(|session| session.session_id));
        cursor = page.next_cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    }
    assert_eq!((seen, cursor), (made, String::new()));
    let none: SessionPage = world.get("/v1/auth/sessions?state=completed&open_id=ou_x").await.json();
    assert!(none.items.is_empty() && none.next_cursor.is_none());
}

#[tokio::test]
async fn long_poll_ends_with_session() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    let path = format!("/v1/auth/sessions/{}?wait=30", session.id);
    let end = async {
        eventually("the poll waits", async || world.free_long_polls() < LONG_POLLS).await;
        world.store.end_session(session.id, SessionEnding::Rejected, &act(now())).await.unwrap();
    };
    let started = tokio::time::Instant::now();
    let (answer, ()) = tokio::join!(world.get(&path), end);
    assert_eq!(answer.json::<SessionView>().state, SessionState::Rejected);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn long_poll_ends_with_process() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.stopping.cancel();
    let started = tokio::time::Instant::now();
    let answer = world.get(&format!("/v1/auth/sessions/{}?wait=30", session.id)).await;
    assert_eq!(answer.json::<SessionView>().state, SessionState::Pending);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn create_session_with_idempotency_key_is_done_once() {
    let bus = Arc::new(FakeBus::default());
    let world = World::with_bus(bus.clone()).await;
    let post = async |key: &str, body: &Value| {
        let request = request("POST", "/v1/auth/sessions").header("content-type", "application/json");
        world.send(request.header("idempotency-key", key).body(Body::from(body.to_string())).unwrap()).await
    };
    let body = json!({"app_id": APP, "open_id": PERSON});
    // The first answer is lost with the broker: the second call sends the card.
    bus.down.store(true, Ordering::Relaxed);
    assert_eq!(post("order-1", &body).await.problem().code, ProblemCode::Unavailable);
    bus.down.store(false, Ordering::Relaxed);
    let first: SessionView = post("order-1", &body).await.json();
    assert_eq!((first.state, bus.published.lock().unwrap().len()), (SessionState::Pending, 1));
    let (a, b) = tokio::join!(post("order-1", &body), post("order-1", &body));
    for again in [a, b] {
        assert_eq!(again.status, StatusCode::CREATED);
        assert_eq!(again.json::<SessionView>().session_id, first.session_id);
    }
    let other = json!({"app_id": APP, "open_id": PERSON, "scopes": ["docx:document"]});
    assert_eq!(post("order-1", &other).await.problem().code, ProblemCode::IdempotencyKeyReused);
    let racing = futures::future::join_all((0..8).map(|_| post("order-2", &other))).await;
    for answer in racing {
        assert_eq!(answer.json::<SessionView>().scopes, ["docx:document", "offline_access"]);
    }
    let listed: SessionPage = world.get("/v1/auth/sessions").await.json();
    assert_eq!(listed.items.len(), 2);
    for bad in ["", " ", "a b", &"x".repeat(256)] {
        assert_eq!(post(bad, &body).await.problem().code, ProblemCode::InvalidRequest, "{bad:?}");
    }
}

#[tokio::test]
async fn get_session_shows_granted_and_missing_scopes() {
    let world = World::new().await;
    let body = json!({"app_id": APP, "open_id": PERSON, "scopes": ["docx:document"]});
    let view: SessionView = world.post("/v1/auth/sessions", &body).await.json();
    let session = world.context.session(&ACTOR, world.context.now(), view.session_id).await.unwrap();
    world.complete(&session, "u-access-token", "Li Lei").await;
    let view: SessionView = world.get(&format!("/v1/auth/sessions/{}", session.id)).await.json();
    assert_eq!(view.granted_scopes, Some(vec!["offline_access".to_owned()]));
    assert_eq!(view.missing_scopes, Some(vec!["docx:document".to_owned()]));
}

#[tokio::test]
async fn create_session_above_rate_is_429_with_retry_after() {
    let world = World::new().await;
    let body = json!({"app_id": APP, "open_id": PERSON});
    for _ in 0..2 {
        assert_eq!(world.post("/v1/auth/sessions", &body).await.status, StatusCode::CREATED);
    }
    let problem = world.post("/v1/auth/sessions", &body).await.problem();
    assert_eq!(problem.code, ProblemCode::RateLimited);
    assert!((1..=60).contains(&problem.retry_after.unwrap()), "{problem:?}");
}

#[tokio::test]
async fn create_session_of_disabled_or_frozen_application_is_refused() {
    let world = World::new().await;
    let (off, frozen) = ("cli_aaaaaaaaaaaaaaaa", "cli_bbbbbbbbbbbbbbbb");
    let store = &world.store;
    for app in [off, frozen] {
        store.put_application(&application(app), &act(now())).await.unwrap();
    }
    store.set_application_enabled(&off.parse().unwrap(), false, &act(now())).await.unwrap();
    store.set_application_frozen(&frozen.parse().unwrap(), Some("wrong secret"), now()).await.unwrap();
    let code = async |app: &str| {
        world.post("/v1/auth/sessions", &json!({"app_id": app, "open_id": PERSON})).await.problem().code
    };
    assert_eq!(code(off).await, ProblemCode::AppDisabled);
    assert_eq!(code(frozen).await, ProblemCode::AppFrozen);
}

#[tokio::test]
async fn create_session_with_broker_down_is_503() {
    let bus = Arc::new(FakeBus::default());
    bus.down.store(true, Ordering::Relaxed);
    let world = World::with_bus(bus).await;
    let problem = world.post("/v1/auth/sessions", &json!({"app_id": APP, "open_id": PERSON})).await.problem();
    assert_eq!(problem.code, ProblemCode::Unavailable);
    assert!(problem.retry_after.is_some() && problem.detail.unwrap().contains("broker"));
}

#[tokio::test]
async fn long_polls_above_limit_are_503() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    let path = format!("/v1/auth/sessions/{}?wait=20", session.id);
    let polls = futures::future::join_all((0..LONG_POLLS + 1).map(|_| world.get(&path)));
    let end = async {
        eventually("every place is taken", async || world.free_long_polls() == 0).await;
        world.stopping.cancel();
    };
    let (answers, ()) = tokio::join!(polls, end);
    let turned_away: Vec<_> =
        answers.iter().filter(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE).collect();
    assert!(!turned_away.is_empty());
    assert_eq!(turned_away[0].problem().code, ProblemCode::Unavailable);
}

async fn panics() -> &'static str {
    panic!("as told")
}

#[tokio::test]
async fn panic_is_500_problem() {
    let mut world = World::new().await;
    let routes = Router::new().route("/panic", get(panics));
    world.router = crate::router::with_middleware(routes, &world.state.take().unwrap(), Audience::Callers);
    let problem = world.get("/panic").await.problem();
    assert_eq!((problem.code, problem.status), (ProblemCode::Internal, 500));
    let metrics = world.context.metrics().render();
    assert!(metrics.contains(r#"route="/panic",status="500""#), "{metrics}");
}
