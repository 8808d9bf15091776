use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode, routing::get};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use larkauth_auth::api_keys::NewApiKey;
use larkauth_contracts::{
    problem::ProblemCode,
    rest::{SessionPage, SessionView, TokenView},
};
use larkauth_messaging::testing::eventually;
use larkauth_models::{AuthMethod, ExposeSecret, KeyScope, SessionState, Timestamp};
use larkauth_storage::{
    SessionEnding,
    testing::{act, cipher_of},
};
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
            .post("/v1/auth/sessions", &json!({"app_id": APP, "open_id": PERSON, "auth_method": "telepathy"}))
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
async fn api_key_without_scope_is_refused() {
    let world = World::new().await;
    let send = async |authorization: Option<&str>, path: &str| {
        let mut request = axum::http::Request::builder().uri(path);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        world.send(request.body(Body::empty()).unwrap()).await
    };
    let new = NewApiKey { scopes: vec![KeyScope::SessionsRead], ..every_scope("reader") };
    let key = world.context.create_api_key(&ACTOR, now(), new).await.unwrap();
    let stored = format!("Bearer {}", key.secret.expose_secret());

    let missing = send(None, "/v1/auth/sessions").await;
    assert_eq!(missing.problem().code, ProblemCode::Unauthorized);
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"larkauth\"");
    let wrong = send(Some("Bearer wrong-key"), "/v1/auth/sessions").await;
    assert_eq!(wrong.problem().code, ProblemCode::Unauthorized);
    assert!(wrong.header("www-authenticate").contains("invalid_token"));
    assert!(!wrong.text.contains("wrong-key"));
    assert_eq!(send(Some(&stored), "/v1/auth/sessions").await.status, StatusCode::OK);
    let narrow = send(Some(&stored), &format!("/v1/apps/{APP}/users/{PERSON}/token")).await;
    assert_eq!(narrow.problem().code, ProblemCode::Forbidden);
    assert!(narrow.header("www-authenticate").contains("scope=\"tokens:read\""));
}

fn every_scope(name: &str) -> NewApiKey {
    NewApiKey {
        name: name.to_owned(),
        scopes: vec![KeyScope::SessionsRead, KeyScope::SessionsWrite, KeyScope::TokensRead],
        app_ids: Vec::new(),
        lark_scopes: Vec::new(),
        requests_per_minute: None,
        expires_at: None,
    }
}

#[tokio::test]
async fn api_key_restricted_to_application_sees_no_other() {
    let world = World::new().await;
    let other = application("cli_fedcba9876543210");
    world.store.put_application(&other, &act(now())).await.unwrap();
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let new = NewApiKey { app_ids: vec![other.app_id.clone()], ..every_scope("other") };
    let key = world.context.create_api_key(&ACTOR, now(), new).await.unwrap();
    let send = async |method: &str, path: &str, body: Value| {
        let request = axum::http::Request::builder().method(method).uri(path);
        let request = request
            .header("authorization", format!("Bearer {}", key.secret.expose_secret()))
            .header("content-type", "application/json");
        world.send(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let code = async |method: &str, path: &str, body| send(method, path, body).await.problem().code;
    let token = format!("/v1/apps/{APP}/users/{PERSON}/token");
    assert_eq!(code("GET", &token, Value::Null).await, ProblemCode::Forbidden);
    assert_eq!(code("GET", &format!("{token}?on_missing=card"), Value::Null).await, ProblemCode::Forbidden);
    let invite = json!({"app_id": APP, "open_id": PERSON});
    assert_eq!(code("POST", "/v1/auth/sessions", invite).await, ProblemCode::Forbidden);
    // A foreign session looks like none, at once and for a long poll.
    for query in ["", "?wait=1"] {
        let path = format!("/v1/auth/sessions/{}{query}", session.id);
        assert_eq!(code("GET", &path, Value::Null).await, ProblemCode::SessionNotFound);
    }
    assert_eq!(
        code("GET", &format!("/v1/auth/sessions?app_id={APP}"), Value::Null).await,
        ProblemCode::Forbidden
    );
    let page: SessionPage = send("GET", "/v1/auth/sessions", Value::Null).await.json();
    assert!(page.items.is_empty());
    let own = json!({"app_id": other.app_id, "open_id": PERSON});
    assert_eq!(send("POST", "/v1/auth/sessions", own).await.status, StatusCode::CREATED);
    let page: SessionPage = send("GET", "/v1/auth/sessions", Value::Null).await.json();
    assert_eq!(page.items.len(), 1);
}

#[tokio::test]
async fn api_key_restricted_to_lark_scopes_asks_for_no_other() {
    let world = World::new().await;
    let new = NewApiKey { lark_scopes: vec!["docs:read".to_owned()], ..every_scope("docs") };
    let key = world.context.create_api_key(&ACTOR, now(), new).await.unwrap();
    let ask = async |scopes: Value| {
        let request = axum::http::Request::builder().method("POST").uri("/v1/auth/sessions");
        let request = request
            .header("authorization", format!("Bearer {}", key.secret.expose_secret()))
            .header("content-type", "application/json");
        let body = json!({"app_id": APP, "open_id": PERSON, "scopes": scopes});
        world.send(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let refused = ask(json!(["docs:read", "contact:contact"])).await.problem();
    assert_eq!(refused.code, ProblemCode::Forbidden);
    let detail = refused.detail.unwrap();
    assert!(detail.contains("contact:contact") && detail.contains("docs:read"), "{detail}");
    assert_eq!(ask(json!(["docs:read", "offline_access"])).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn api_key_above_its_rate_is_429() {
    let world = World::new().await;
    let new = NewApiKey { requests_per_minute: std::num::NonZeroU32::new(3), ..every_scope("slow") };
    let key = world.context.create_api_key(&ACTOR, now(), new).await.unwrap();
    let send = async || {
        let request = axum::http::Request::builder().uri("/v1/auth/sessions");
        let request = request.header("authorization", format!("Bearer {}", key.secret.expose_secret()));
        world.send(request.body(Body::empty()).unwrap()).await
    };
    for _ in 0..3 {
        assert_eq!(send().await.status, StatusCode::OK);
    }
    let refused = send().await.problem();
    assert_eq!((refused.code, refused.status), (ProblemCode::RateLimited, 429));
    assert!((1..=20).contains(&refused.retry_after.unwrap()));
    // Other keys are counted apart.
    assert_eq!(world.get("/v1/auth/sessions").await.status, StatusCode::OK);
}

#[tokio::test]
async fn api_key_expired_or_malformed_is_401() {
    let world = World::new().await;
    let soon = now() + chrono::TimeDelta::milliseconds(300);
    let new = NewApiKey { expires_at: Some(soon), ..every_scope("short") };
    let key = world.context.create_api_key(&ACTOR, now(), new).await.unwrap();
    let status = async |secret: &str| {
        let request = axum::http::Request::builder().uri("/v1/auth/sessions");
        let request = request.header("authorization", format!("Bearer {secret}"));
        world.send(request.body(Body::empty()).unwrap()).await.status
    };
    let secret = key.secret.expose_secret();
    eventually("the key expires, also when it is cached", async || {
        status(secret).await == StatusCode::UNAUTHORIZED
    })
    .await;
    // Nonsense causes no query: it is refused as such while the database is down.
    world.store.close().await;
    assert_eq!(status("nonsense").await, StatusCode::UNAUTHORIZED);
    let last = if secret.ends_with('A') { 'B' } else { 'A' };
    assert_eq!(status(&format!("{}{last}", &secret[..secret.len() - 1])).await, StatusCode::UNAUTHORIZED);
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
async fn get_token_stored_is_served() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    let answer = world.get(&path).await;
    let token: TokenView = answer.json();
    assert_eq!((token.access_token.as_str(), token.token_type.as_str()), ("u-access-token", "Bearer"));
    assert_eq!(answer.header("cache-control"), "no-store");
    // An hour is left, so an hour cannot be promised.
    let answer = world.get(&format!("{path}?min_validity=3600")).await;
    assert_eq!(answer.problem().code, ProblemCode::UpstreamUnavailable, "nor can Lark be asked");
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
async fn get_token_without_required_scope_is_403_and_asks_for_union() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    assert_eq!(world.get(&format!("{path}?scopes=offline_access")).await.status, 200);
    let lacking = format!("{path}?scopes=docx:document%20offline_access%20calendar:calendar");
    let problem = world.get(&lacking).await.problem();
    assert_eq!((problem.code, problem.status), (ProblemCode::InsufficientScope, 403));
    assert_eq!(
        (problem.missing_scopes.as_slice(), problem.session_id),
        (&["docx:document".to_owned(), "calendar:calendar".to_owned()][..], None)
    );

    let asked = world.get(&format!("{lacking}&on_missing=card")).await.problem();
    assert_eq!(asked.code, ProblemCode::InsufficientScope);
    let view: SessionView =
        world.get(&format!("/v1/auth/sessions/{}", asked.session_id.unwrap())).await.json();
    assert_eq!(view.scopes, ["calendar:calendar", "docx:document", "offline_access"]);
    assert_eq!((view.granted_scopes, view.missing_scopes), (None, None));
    let narrower = world.get(&format!("{path}?scopes=docx:document&on_missing=card")).await.problem();
    assert_eq!(narrower.session_id, asked.session_id, "the open card asks for it");
    let wider = world.get(&format!("{path}?scopes=im:message&on_missing=card")).await.problem();
    assert!(wider.session_id.is_none() && wider.retry_after.is_some(), "the open card does not ask for it");

    let bad = world.get(&format!("{path}?scopes=docx%22")).await.problem();
    assert_eq!(bad.code, ProblemCode::InvalidRequest);
    assert_eq!(world.get(&path).await.status, 200, "the token is still served to those whom it suffices");
}

#[tokio::test]
async fn refresh_and_forget_token() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    let refresh = async |body: Value| world.post(&format!("{path}/refresh"), &body).await;
    // The caller's token is older than the stored one.
    let token: TokenView = refresh(json!({"generation": 0})).await.json();
    assert_eq!((token.access_token.as_str(), token.generation), ("u-access-token", 1));
    // Lark cannot be reached here, and a valid token is left alone.
    let problem = refresh(json!({})).await.problem();
    assert_eq!(problem.code, ProblemCode::UpstreamUnavailable);
    assert!(problem.retry_after.is_some());
    assert_eq!(world.get(&path).await.status, StatusCode::OK);
    assert_eq!(refresh(json!({"generation": "1"})).await.problem().code, ProblemCode::InvalidRequest);

    let forget = async || world.send(request("DELETE", &path).body(Body::empty()).unwrap()).await.status;
    assert_eq!((forget().await, forget().await), (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT));
    for gone in [world.get(&path).await, refresh(json!({})).await] {
        assert_eq!(gone.problem().code, ProblemCode::AuthenticationRequired);
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
async fn get_token_missing_with_on_missing_card_invites() {
    let world = World::new().await;
    let path = format!("/v1/apps/{APP}/users/{PERSON}/token");
    let answer = world.get(&path).await;
    assert_eq!(
        (answer.problem().code, answer.problem().session_id),
        (ProblemCode::AuthenticationRequired, None)
    );
    let ask = async || world.get(&format!("{path}?on_missing=card")).await.problem();
    let problem = ask().await;
    assert_eq!(problem.code, ProblemCode::AuthenticationRequired);
    let session = problem.session_id.unwrap();
    let (a, b) = tokio::join!(ask(), ask());
    assert_eq!(
        (a.session_id, b.session_id),
        (Some(session), Some(session)),
        "an open card is not sent twice"
    );
    world.store.end_session(session, SessionEnding::Rejected, &act(world.context.now())).await.unwrap();
    let paused = ask().await;
    assert_eq!((paused.code, paused.session_id), (ProblemCode::AuthenticationRequired, None));
    let detail = paused.detail.unwrap();
    assert!(detail.contains("No card was sent") && detail.contains("left in peace"), "{detail}");
    assert!(paused.retry_after.is_some_and(|wait| (590..=600).contains(&wait)));
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
async fn get_token_with_database_down_is_503() {
    let world = World::new().await;
    world.store.close().await;
    for path in [format!("/v1/apps/{APP}/users/{PERSON}/token"), "/v1/auth/sessions".to_owned()] {
        let problem = world.get(&path).await.problem();
        assert_eq!(problem.code, ProblemCode::Unavailable);
        assert!(problem.detail.unwrap().contains("database"));
    }
}

#[tokio::test]
async fn get_token_with_lost_encryption_key_is_500() {
    let world = World::new().await;
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let World { database, .. } = world;
    // The application can be read, the token cannot: it was sealed with a key that is gone.
    let other =
        World::on(database, cipher_of(&[("other", 9), ("test", 8)]), Arc::new(FakeBus::default())).await;
    other.store.put_application(&application(APP), &act(now())).await.unwrap();
    let problem = other.get(&format!("/v1/apps/{APP}/users/{PERSON}/token?on_missing=card")).await.problem();
    assert_eq!(problem.code, ProblemCode::Internal);
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
