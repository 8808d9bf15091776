//! What an API key may do, and for how long.

use axum::{body::Body, http::StatusCode};
use larkauth_auth::api_keys::NewApiKey;
use larkauth_contracts::{problem::ProblemCode, rest::SessionPage};
use larkauth_messaging::testing::eventually;
use larkauth_models::{AuthMethod, ExposeSecret, KeyScope};
use larkauth_storage::testing::act;
use serde_json::{Value, json};

use super::world::{APP, PERSON, World, application, now};
use crate::actor::ACTOR;

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
