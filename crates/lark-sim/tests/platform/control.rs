use larkauth_lark_sim::{Sim, SimConfig, SimError};
use serde_json::{Value, json};

use crate::support::{APP, TIMEOUT, card, world};

#[tokio::test]
async fn control_api_from_another_process_drives_the_platform() {
    let world = world().await;
    let mut client = world.connect().await;
    let id = world.send(&card("one")).await;
    let get = async |path: &str| {
        world.http.get(world.url(path)).send().await.unwrap().json::<Value>().await.unwrap()
    };

    let state = get("/_sim/state").await;
    assert_eq!(state["apps"][0]["connections"], 1);
    let users = get("/_sim/users").await;
    let names: Vec<_> =
        users.as_array().unwrap().iter().map(|user| user["en_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Demo User 1", "Demo User 2", "Demo User 3"]);
    let text = users.to_string() + &state.to_string();
    for secret in world.sim.issued_secrets() {
        assert!(!text.contains(&secret), "state and users show no secret");
    }
    let messages = get(&format!("/_sim/messages?open_id={}", world.user.open_id)).await;
    assert_eq!(messages[0]["buttons"][0]["name"], "go");

    let (clicked, ()) = tokio::join!(
        world.post("/_sim/click", json!({"message_id": id, "button": "go", "with_code": true})),
        async {
            let frame = client.next().await.unwrap();
            let body: Value = serde_json::from_slice(frame.payload.as_ref().unwrap()).unwrap();
            assert_eq!(body["event"]["action"]["value"]["authorization_code"].as_str().unwrap().len(), 64);
            client.answer(frame, &json!({"toast": {"type": "info", "content": "ok"}})).await;
        }
    );
    assert_eq!((clicked.0, &clicked.1["toast"]["content"]), (200, &json!("ok")));
    assert!(clicked.1["elapsed_ms"].is_number());

    let consent = json!({"url": world.authorize_url("offline_access"), "open_id": world.user.open_id});
    let (_, consented) = world.post("/_sim/consent", consent).await;
    assert!(consented["redirect_url"].as_str().unwrap().contains("code="));
    let fault = json!({"endpoint": "token_refresh", "effect": {"answer": {"status": 500, "code": 20050}}});
    let planned = world.http.post(world.url("/_sim/faults")).json(&fault).send().await.unwrap();
    assert_eq!(planned.status().as_u16(), 201);
    assert_eq!(world.sim.faults().list()[0].times, Some(1));
    assert_eq!(world.refresh(&json!("x")).await.1["code"], 20050);
    let (_, dropped) = world.post("/_sim/connections", json!({"action": "drop", "app_id": APP})).await;
    assert_eq!(dropped["connections"], 1);
    world.sim.wait_until(TIMEOUT, |sim| (sim.connections(APP) == 0).then_some(())).await.unwrap();
    let status = world.http.put(world.url(&format!("/_sim/users/{}/status", world.user.open_id)));
    assert_eq!(status.json(&json!("resigned")).send().await.unwrap().status().as_u16(), 204);
    assert_eq!(get("/_sim/violations").await, json!([]));
    assert_eq!(get("/_sim/stats").await["calls"]["message_send"], 1);
    assert_eq!(world.post("/_sim/click", json!({"message_id": "om_x", "button": 0})).await.0, 404);
}

#[tokio::test]
async fn start_on_non_loopback_address_needs_permission() {
    let mut config = SimConfig::demo();
    config.addr = ([0, 0, 0, 0], 0).into();
    assert!(matches!(Sim::start(config.clone()).await, Err(SimError::NotLoopback(_))));
    config.allow_non_loopback = true;
    Sim::start(config).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn debug_of_config_holds_no_secret() {
    let config = SimConfig::demo();
    let text = format!("{config:?}");
    let sim = Sim::start(config).await.unwrap();
    for secret in sim.issued_secrets() {
        assert!(!text.contains(&secret));
    }
    assert!(sim.apps()[0].app_id.len() == 20 && sim.users().len() == 3);
    sim.shutdown().await;
}
