use std::time::Duration;

use larkauth_lark_sim::{Effect, Endpoint, Fault, ViolationKind};
use serde_json::{Value, json};

use crate::support::{APP, SECRET, World, world};

async fn raw_refresh(world: &World, token: &Value) -> reqwest::Result<reqwest::Response> {
    let body = json!({"client_id": APP, "client_secret": SECRET, "grant_type": "refresh_token", "refresh_token": token});
    world.http.post(world.url("/open-apis/authen/v2/oauth/token")).json(&body).send().await
}

#[tokio::test]
async fn refresh_after_lost_answer_notes_no_violation() {
    let world = world().await;
    let pair = world.pair().await;
    world.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LostAnswer));
    assert!(raw_refresh(&world, &pair["refresh_token"]).await.is_err());
    assert_eq!(world.refresh(&pair["refresh_token"]).await.1["code"], 20073);
    assert!(world.violations().is_empty());
}

#[tokio::test]
async fn refresh_after_cut_connection_succeeds() {
    let world = world().await;
    let pair = world.pair().await;
    world.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::Cut));
    assert!(raw_refresh(&world, &pair["refresh_token"]).await.is_err());
    assert_eq!(world.refresh(&pair["refresh_token"]).await.1["code"], 0);
}

#[tokio::test]
async fn planned_faults_apply_to_their_endpoint_and_application() {
    let world = world().await;
    let pair = world.pair().await;
    let faults = world.sim.faults();
    faults.push(Fault::at(Endpoint::TokenRefresh, Effect::Answer { status: 503, code: 20072 }));
    assert_eq!(
        world.refresh(&pair["refresh_token"]).await,
        (
            503,
            json!({"code": 20072, "error": "temporarily_unavailable", "error_description": "The server is temporarily unavailable."})
        )
    );
    faults.push(Fault::at(Endpoint::TokenRefresh, Effect::TooManyRequests(7)).times(2));
    for _ in 0..2 {
        let response = raw_refresh(&world, &pair["refresh_token"]).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-ogw-ratelimit-reset"]),
            (429, &"7".parse().unwrap())
        );
    }
    faults.push(Fault::anywhere(Effect::MalformedBody).for_app("cli_0000000000000000"));
    assert_eq!(
        world.refresh(&pair["refresh_token"]).await.1["code"],
        0,
        "the fault is for another application"
    );
    assert_eq!(faults.list().len(), 1);
    faults.clear();
    faults.push(Fault::at(Endpoint::TenantToken, Effect::MalformedBody));
    let body = world.http.post(world.url("/open-apis/auth/v3/tenant_access_token/internal"));
    let text =
        body.json(&json!({"app_id": APP, "app_secret": SECRET})).send().await.unwrap().text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_err());
    assert!(world.violations().is_empty(), "a planned fault is no violation of the client");
}

#[tokio::test]
async fn concurrent_refreshes_of_one_token_are_noted_as_violation() {
    let world = world().await;
    let pair = world.pair().await;
    world.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::Latency(200)).times(2));
    let (one, two) =
        tokio::join!(world.refresh(&pair["refresh_token"]), world.refresh(&pair["refresh_token"]));
    let mut codes = [one.1["code"].as_i64(), two.1["code"].as_i64()];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(20073)]);
    assert!(world.violations().contains(&ViolationKind::RefreshesInFlight));
}

#[tokio::test]
async fn shutdown_with_hanging_call_ends() {
    let world = world().await;
    let pair = world.pair().await;
    world.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::Hang).until_cleared());
    let hung =
        tokio::time::timeout(Duration::from_millis(100), raw_refresh(&world, &pair["refresh_token"])).await;
    assert!(hung.is_err());
    let World { sim, http, .. } = world;
    let url = format!("{}/open-apis/authen/v2/oauth/token", sim.base_url());
    let body = json!({"client_id": APP, "client_secret": SECRET, "grant_type": "refresh_token", "refresh_token": pair["refresh_token"]});
    let (answer, ()) = tokio::join!(http.post(url).json(&body).send(), async {
        let begun =
            |sim: &larkauth_lark_sim::Sim| (sim.stats().calls(Endpoint::TokenRefresh) >= 2).then_some(());
        while sim.wait_until(Duration::from_millis(20), begun).await.is_err() {}
        sim.shutdown().await;
    });
    assert!(answer.is_err());
}
