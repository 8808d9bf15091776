use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aes::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use axum::{Json, Router, extract::State, http::HeaderMap, routing::post};
use base64::{Engine, prelude::BASE64_STANDARD};
use larkauth_lark_sim::{Delivery, Effect, Endpoint, Fault, SimError, ViolationKind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{APP, TIMEOUT, World, card, world, world_with};

type Seen = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// Starts a callback endpoint that answers challenges and clicks.
async fn endpoint(encrypt_key: Option<&'static str>) -> (String, Seen) {
    let seen = Seen::default();
    let handler = move |State(seen): State<Seen>, headers: HeaderMap, body: String| async move {
        seen.lock().unwrap().push((headers, body.clone()));
        let body = open(encrypt_key, &body);
        Json(if body["type"] == "url_verification" {
            json!({"challenge": body["challenge"]})
        } else {
            json!({"toast": {"type": "info", "content": "ok"}})
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", listener.local_addr().unwrap());
    let router = Router::new().route("/callback", post(handler)).with_state(seen.clone());
    #[expect(clippy::disallowed_methods, reason = "runs as long as its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

fn open(key: Option<&str>, body: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap();
    let Some(key) = key else { return body };
    let sealed = BASE64_STANDARD.decode(body["encrypt"].as_str().unwrap()).unwrap();
    let key = Sha256::digest(key);
    let cipher = cbc::Decryptor::<aes::Aes256>::new_from_slices(&key, &sealed[..16]).unwrap();
    serde_json::from_slice(&cipher.decrypt_padded_vec::<Pkcs7>(&sealed[16..]).unwrap()).unwrap()
}

async fn click(world: &World) -> larkauth_lark_sim::ClickOutcome {
    let id = world.send(&card("one")).await;
    world.sim.click(&id, 0, &world.user.open_id).await.unwrap()
}

#[tokio::test]
async fn callback_without_encrypt_key_carries_verification_token() {
    let world = world().await;
    let (url, seen) = endpoint(None).await;
    world
        .sim
        .change_app(APP, |app| {
            *app = app.clone().with_callback_url(url);
            app.verification_token = Some("the-token".to_owned().into());
        })
        .unwrap();
    world.sim.verify_callback_url(APP).await.unwrap();
    let outcome = click(&world).await;
    assert!(outcome.answered, "{outcome:?}");
    assert_eq!(outcome.toast.unwrap()["content"], "ok");
    let seen = seen.lock().unwrap();
    let body: Value = serde_json::from_str(&seen[1].1).unwrap();
    assert_eq!((seen.len(), &body["header"]["token"]), (2, &json!("the-token")));
}

#[tokio::test]
async fn callback_with_encrypt_key_is_signed_and_encrypted() {
    const KEY: &str = "the-encrypt-key";
    let world = world().await;
    let (url, seen) = endpoint(Some(KEY)).await;
    world
        .sim
        .change_app(APP, |app| *app = app.clone().with_callback_url(url).with_callback_secrets("tok", KEY))
        .unwrap();
    world.sim.verify_callback_url(APP).await.unwrap();
    assert!(click(&world).await.answered);
    for (headers, body) in seen.lock().unwrap().iter() {
        let text = |name: &str| headers[name].to_str().unwrap();
        let signed =
            format!("{}{}{KEY}{body}", text("X-Lark-Request-Timestamp"), text("X-Lark-Request-Nonce"));
        assert_eq!(text("X-Lark-Signature"), hex::encode(Sha256::digest(signed)));
        assert!(!body.contains("header"));
    }
}

#[tokio::test]
async fn callback_with_open_connection_uses_http_only_on_request() {
    let world = world().await;
    let (url, seen) = endpoint(None).await;
    world.sim.change_app(APP, |app| *app = app.clone().with_callback_url(url)).unwrap();
    let mut client = world.connect().await;
    let id = world.send(&card("one")).await;
    let (outcome, ()) = tokio::join!(world.sim.click(&id, 0, &world.user.open_id), async {
        let frame = client.next().await.unwrap();
        client.answer(frame, &json!({})).await;
    });
    assert!(outcome.unwrap().answered && seen.lock().unwrap().is_empty());
    world.sim.change_app(APP, |app| app.delivery = Delivery::Http).unwrap();
    assert!(click(&world).await.answered);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn callback_to_unreachable_or_wrong_endpoint_shows_error() {
    let world = world().await;
    world.sim.change_app(APP, |app| app.callback_url = Some("http://127.0.0.1:9/".to_owned())).unwrap();
    assert!(matches!(world.sim.verify_callback_url(APP).await, Err(SimError::Callback(_))));
    assert_eq!(click(&world).await.error, Some(200_341));
    let odd = world.url("/_sim/state");
    world.sim.change_app(APP, |app| app.callback_url = Some(odd)).unwrap();
    assert_eq!(click(&world).await.error, Some(200_671), "405 is not 200");
}

#[tokio::test]
async fn callback_answered_late_by_http_shows_error_and_notes_violation() {
    let world = world_with(|config| config.socket.answer_deadline = Duration::from_millis(50)).await;
    // Any endpoint that answers 200 with JSON serves here; a fault slows down one of the simulator's own.
    let slow = Fault::at(Endpoint::TenantToken, Effect::LateAnswer(200)).until_cleared();
    let id = world.send(&card("one")).await;
    world.sim.faults().push(slow);
    let url = world.url("/open-apis/auth/v3/tenant_access_token/internal");
    world.sim.change_app(APP, |app| app.callback_url = Some(url)).unwrap();
    assert_eq!(world.sim.click(&id, 0, &world.user.open_id).await.unwrap().error, Some(200_341));
    let late = |sim: &larkauth_lark_sim::Sim| sim.violations().first().map(|violation| violation.kind);
    assert_eq!(world.sim.wait_until(TIMEOUT, late).await.unwrap(), ViolationKind::LateAnswer);
}
