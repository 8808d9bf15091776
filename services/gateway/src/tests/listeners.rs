//! What each listener serves, and what is refused before the store is asked.

use axum::{Router, body::Body, http::Request};
use larkauth_contracts::problem::ProblemCode;
use larkauth_models::{AuthMethod, Entropy, ExposeSecret, OsEntropy};
use tower::ServiceExt;

use super::world::{APP, Answer, PERSON, World, request};
use crate::router::separate_routers;

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&body).into_owned() }
}

async fn get(router: &Router, path: &str) -> Answer {
    send(router, request("GET", path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn public_router_serves_nothing_private_and_names_no_docs() {
    let world = World::new().await;
    let (public, private) = separate_routers(world.state.as_ref().unwrap());
    let token = format!("/v1/apps/{APP}/users/{PERSON}/token");
    for path in [
        "/",
        "/docs",
        "/docs/",
        "/docs/openapi.json",
        "/docs/problems",
        "/v1/auth/sessions",
        &token,
        "/nothing",
    ] {
        let answer = get(&public, path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
        assert!(
            !answer.text.contains("docs") && answer.text.contains("about:blank"),
            "{path}: {}",
            answer.text
        );
    }
    let refused = send(&public, request("PUT", "/oauth/callback").body(Body::empty()).unwrap()).await;
    assert!(refused.status == 405 && !refused.text.contains("docs"), "{}", refused.text);
    let callback =
        send(&public, request("POST", "/lark/callback/cli_bad").body(Body::from("{}")).unwrap()).await;
    assert!(callback.status == 400 && !callback.text.contains("docs"), "{}", callback.text);
    assert_eq!(get(&public, "/oauth/callback").await.header("content-type"), "text/html; charset=utf-8");

    assert_eq!(get(&private, "/v1/auth/sessions").await.status, 200);
    assert_eq!(get(&private, "/docs/").await.status, 200);
    for path in ["/oauth/callback", "/lark/callback"] {
        assert_eq!(get(&private, path).await.problem().code, ProblemCode::NotFound, "{path}");
    }
}

/// The store is closed, so that each question to it would be a 503.
#[tokio::test]
async fn malformed_ids_and_secrets_are_refused_without_query() {
    let world = World::new().await;
    world.store.close().await;
    let page =
        async |query: &str| world.get(&format!("/oauth/callback?code=c&{query}")).await.status.as_u16();
    let state = OsEntropy.secret_token();
    assert_eq!(page(&format!("state={}", state.expose_secret())).await, 503, "this one is looked up");
    assert_eq!(page(&format!("state={}x", state.expose_secret())).await, 404);
    assert_eq!(page("state=x").await, 404);

    let with_key = async |key: &str| {
        let request = Request::get("/v1/auth/sessions").header("authorization", format!("Bearer {key}"));
        world.send(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    let key = format!("lak_{}", OsEntropy.secret_token().expose_secret());
    assert_eq!(with_key(&key).await, 503, "this one is looked up");
    for other in ["secret", "lak_", &format!("{key}x"), &key.replace("lak_", "key_")] {
        assert_eq!(with_key(other).await, 401, "{other}");
    }
    for (app, person) in [("cli_x", PERSON), (APP, "on_person"), (APP, "person"), (APP, "ou%20x")] {
        let answer = world.get(&format!("/v1/apps/{app}/users/{person}/token")).await;
        assert_eq!(answer.problem().code, ProblemCode::InvalidRequest, "{app} {person}");
    }
    let list = world.get("/v1/auth/sessions?open_id=person").await;
    assert_eq!(list.problem().code, ProblemCode::InvalidRequest);
    let callback = request("POST", "/lark/callback/cli_x").body(Body::from("{}")).unwrap();
    assert_eq!(world.send(callback).await.problem().code, ProblemCode::InvalidRequest);
}

/// After the first look the store is closed: what is not known is not looked up again.
#[tokio::test]
async fn repeated_unknown_is_answered_from_cache() {
    let world = World::new().await;
    let known = world.session(AuthMethod::WebsocketCard).await;
    let (state, key) = (OsEntropy.secret_token(), OsEntropy.secret_token());
    let redirect = format!("/oauth/callback?code=c&state={}", state.expose_secret());
    let key = format!("Bearer lak_{}", key.expose_secret());
    let token = format!("/v1/apps/cli_fedcba9876543210/users/{PERSON}/token");
    for _ in 0..2 {
        assert_eq!(world.get(&redirect).await.status, 404);
        let request = Request::get("/v1/auth/sessions").header("authorization", &key);
        assert_eq!(world.send(request.body(Body::empty()).unwrap()).await.status, 401);
        assert_eq!(world.get(&token).await.problem().code, ProblemCode::AppNotFound);
        world.store.close().await;
    }
    let state = known.consent.unwrap().state;
    let other = format!("/oauth/callback?code=c&state={}", state.expose_secret());
    assert_eq!(world.get(&other).await.status, 503, "the store is closed");
}
