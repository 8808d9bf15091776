use std::time::Duration;

use larkauth_lark_sim::{SimApp, UserStatus, ViolationKind};
use serde_json::{Value, json};

use crate::support::{APP, CHALLENGE, REDIRECT, SECRET, VERIFIER, code_grant, param, world, world_with};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn exchange_of_used_code_is_refused_and_notes_violation() {
    let world = world().await;
    let code = world.code("offline_access contact:user.base:readonly").await;
    let (status, pair) = world.exchange(&code).await;
    assert_eq!((status, &pair["code"]), (200, &json!(0)), "{pair}");
    assert!(pair["access_token"].as_str().unwrap().len() > 1024);
    assert_eq!(pair["expires_in"], 7200);
    assert_eq!(pair["refresh_token_expires_in"], 604_800);
    assert_eq!(pair["scope"], "contact:user.base:readonly offline_access");
    let (_, info) = world.get("/open-apis/authen/v1/user_info", pair["access_token"].as_str().unwrap()).await;
    assert_eq!(info["data"]["open_id"], world.user.open_id);
    assert!(world.violations().is_empty());

    let (status, again) = world.exchange(&code).await;
    assert_eq!((status, &again["code"], &again["error"]), (400, &json!(20065), &json!("invalid_grant")));
    assert_eq!(world.violations(), [ViolationKind::CodeReplayed]);
}

#[tokio::test]
async fn exchange_as_form_returns_tokens() {
    let world = world().await;
    let code = world.code("").await;
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", APP),
        ("client_secret", SECRET),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    let response =
        world.http.post(world.url("/open-apis/authen/v2/oauth/token")).form(&form).send().await.unwrap();
    let pair: Value = response.json().await.unwrap();
    assert_eq!(pair["code"], 0, "{pair}");
    assert!(pair.get("refresh_token").is_none(), "no refresh token without offline_access");
}

#[tokio::test]
async fn exchange_with_mismatch_is_refused_and_keeps_code_usable() {
    let world = world_with(|config| config.apps.push(SimApp::new("cli_fedcba9876543210", "other"))).await;
    let code = world.code("offline_access").await;
    let with = |key: &str, value: &str| {
        let mut body = code_grant(&code);
        body[key] = json!(value);
        body
    };
    for (body, expected) in [
        (with("code", "unknown"), 20003),
        (with("redirect_uri", "http://127.0.0.1:8080/other"), 20071),
        (with("redirect_uri", ""), 20071),
        (with("code_verifier", "short"), 20049),
        (with("code_verifier", ""), 20049),
        (with("code_verifier", &VERIFIER.to_lowercase()), 20049),
        (with("client_secret", "wrong"), 20002),
        (with("client_id", "cli_0000000000000000"), 20048),
        (with("grant_type", "password"), 20036),
        (with("grant_type", ""), 20001),
        (with("scope", "never:granted"), 20068),
        (with("scope", "offline_access offline_access"), 20067),
        (
            json!({"grant_type": "authorization_code", "code": code, "client_id": "cli_fedcba9876543210", "client_secret": "other"}),
            20024,
        ),
    ] {
        assert_eq!(world.token(body.clone()).await.1["code"], expected, "{body}");
    }
    assert_eq!(world.exchange(&code).await.1["code"], 0);
    assert!(world.violations().is_empty());
}

#[tokio::test]
async fn exchange_of_expired_code_is_refused() {
    let world = world().await;
    let code = world.code("").await;
    world.clock.advance(Duration::from_secs(301));
    assert_eq!(world.exchange(&code).await.1["code"], 20004);
}

#[tokio::test]
async fn refresh_ends_old_refresh_token_at_once_and_old_access_token_after_a_minute() {
    let world = world().await;
    let first = world.pair().await;
    world.clock.advance(Duration::from_secs(3600));
    let (status, second) = world.refresh(&first["refresh_token"]).await;
    assert_eq!(status, 200, "{second}");
    let old = first["access_token"].as_str().unwrap();
    assert_eq!(world.get("/open-apis/authen/v1/user_info", old).await.1["code"], 0);
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(
        world.get("/open-apis/authen/v1/user_info", old).await,
        (401, json!({"code": 99_991_677, "msg": "Authentication token expired"}))
    );
    assert_eq!(world.get("/open-apis/authen/v1/user_info", "u-unknown").await.1["code"], 20005);

    assert!(world.violations().is_empty());
    assert_eq!(world.refresh(&first["refresh_token"]).await.1["code"], 20073);
    assert_eq!(world.violations(), [ViolationKind::RefreshReplayed]);
    assert_eq!(world.refresh(&second["refresh_token"]).await.1["code"], 0);
}

#[tokio::test]
async fn refresh_after_seven_idle_days_or_a_year_is_refused() {
    let world = world().await;
    let idle = world.pair().await;
    world.clock.advance(7 * DAY);
    assert_eq!(world.refresh(&idle["refresh_token"]).await.1["code"], 20037);

    let mut pair = world.pair().await;
    for _ in 0..60 {
        world.clock.advance(6 * DAY);
        pair = world.refresh(&pair["refresh_token"]).await.1;
        assert_eq!(pair["code"], 0, "{pair}");
    }
    world.clock.advance(5 * DAY);
    assert_eq!(world.refresh(&pair["refresh_token"]).await.1["code"], 20037);
    assert!(world.violations().is_empty());
}

#[tokio::test]
async fn refresh_refused_for_user_or_app_returns_code_of_reason() {
    let world = world().await;
    let pair = world.pair().await;
    for (status, expected) in [(UserStatus::OutOfRange, 20010), (UserStatus::Resigned, 20066)] {
        world.sim.set_status(&world.user.open_id, status).unwrap();
        assert_eq!(world.refresh(&pair["refresh_token"]).await.1["code"], expected);
    }
    world.sim.set_status(&world.user.open_id, UserStatus::Active).unwrap();
    world.sim.change_app(APP, |app| app.refresh_enabled = false).unwrap();
    assert_eq!(world.refresh(&pair["refresh_token"]).await.1["code"], 20074);
    world.sim.change_app(APP, |app| app.enabled = false).unwrap();
    assert_eq!(world.refresh(&pair["refresh_token"]).await.1["code"], 20069);
    world.sim.change_app(APP, |app| (app.enabled, app.refresh_enabled) = (true, true)).unwrap();
    world.sim.revoke(APP, &world.user.open_id).unwrap();
    assert_eq!(world.refresh(&pair["refresh_token"]).await.1["code"], 20064);
    let fresh = world.pair().await;
    world.sim.remove_user(&world.user.open_id).unwrap();
    assert_eq!(world.refresh(&fresh["refresh_token"]).await.1["code"], 20008);
}

#[tokio::test]
async fn second_consent_accumulates_scopes() {
    let world = world().await;
    world.exchange(&world.code("offline_access").await).await;
    let (_, pair) = world.exchange(&world.code("calendar:calendar").await).await;
    assert_eq!(pair["scope"], "calendar:calendar offline_access");
    assert!(pair["refresh_token"].is_string());
    let narrow = json!({"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "scope": "offline_access"});
    assert_eq!(world.token(narrow).await.1["scope"], "offline_access");
}

#[tokio::test]
async fn historical_endpoint_nests_tokens_and_keeps_refresh_tokens_apart() {
    let world = world().await;
    let credentials = json!({"app_id": APP, "app_secret": SECRET});
    let (_, app) = world.post("/open-apis/auth/v3/app_access_token/internal", credentials).await;
    let app_token = app["app_access_token"].as_str().unwrap();
    let v1 = async |path: &str, body: Value| -> Value {
        let url = world.url(&format!("/open-apis/authen/v1/oidc/{path}"));
        world.http.post(url).bearer_auth(app_token).json(&body).send().await.unwrap().json().await.unwrap()
    };
    let code = world.code("").await;
    let pair = v1("access_token", json!({"grant_type": "authorization_code", "code": code})).await;
    assert_eq!(pair["code"], 0, "{pair}");
    let token = &pair["data"]["refresh_token"];
    assert!(pair["data"]["refresh_expires_in"].is_number());
    assert_eq!(world.refresh(token).await.1["code"], 20026, "not at the current endpoint");
    let refresh = json!({"grant_type": "refresh_token", "refresh_token": token});
    assert_eq!(v1("refresh_access_token", refresh.clone()).await["code"], 0);
    assert_eq!(v1("refresh_access_token", refresh).await["code"], 20073);
    let v2 = world.pair().await;
    let mixed = json!({"grant_type": "refresh_token", "refresh_token": v2["refresh_token"]});
    assert_eq!(v1("refresh_access_token", mixed).await["code"], 20026);
}

#[tokio::test]
async fn device_flow_polled_early_slows_down_and_ends_with_decision() {
    let world = world().await;
    let start = async || -> Value {
        world
            .http
            .post(world.url("/oauth/v1/device_authorization"))
            .basic_auth(APP, Some(SECRET))
            .form(&[("client_id", APP), ("scope", "offline_access")])
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    };
    let poll = async |started: &Value| {
        let grant = "urn:ietf:params:oauth:grant-type:device_code";
        world.token(json!({"grant_type": grant, "device_code": started["device_code"]})).await
    };
    let started = start().await;
    assert_eq!((&started["expires_in"], &started["interval"]), (&json!(240), &json!(5)));
    let (status, body) = poll(&started).await;
    assert_eq!((status, &body["error"]), (400, &json!("authorization_pending")));
    assert_eq!(poll(&started).await.1["error"], "slow_down");
    world.clock.advance(Duration::from_secs(6));
    assert_eq!(poll(&started).await.1["error"], "slow_down", "the interval has grown by 5 s");
    let user_code = started["user_code"].as_str().unwrap();
    let page = world.sim.open_url(started["verification_uri_complete"].as_str().unwrap()).await.unwrap();
    assert!(page.status == 200 && page.html.contains(user_code), "{}", page.html);
    assert!(world.sim.decide_device(user_code, Some(&world.user.open_id)).unwrap());
    world.clock.advance(Duration::from_secs(20));
    assert!(poll(&started).await.1["refresh_token"].is_string());
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(poll(&started).await.1["error"], "invalid_grant");

    let refused = start().await;
    assert!(world.sim.decide_device(refused["user_code"].as_str().unwrap(), None).unwrap());
    assert_eq!(poll(&refused).await.1["error"], "access_denied");
    let forgotten = start().await;
    world.clock.advance(Duration::from_secs(241));
    assert_eq!(poll(&forgotten).await.1["error"], "expired_token");
    assert_eq!(world.violations(), [ViolationKind::DevicePolledEarly; 2]);
}

#[tokio::test]
async fn consent_page_redirects_and_refuses_unregistered_requests() {
    let world = world().await;
    let url = world.authorize_url("offline_access");
    let page = world.sim.open_url(&url).await.unwrap();
    assert!(page.status == 200 && page.html.contains("offline_access") && page.html.contains("Demo User 1"));
    let chinese = world.sim.open_url(&format!("{url}&lang=zh")).await.unwrap();
    assert!(chinese.html.contains("同意授权") && chinese.html.contains("演示用户 1"));

    let decide = async |decision: &str| {
        let form = [("user", world.user.union_id.as_str()), ("decision", decision)];
        let response = world.http.post(&url).form(&form).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 302);
        response.headers()["location"].to_str().unwrap().to_owned()
    };
    let agreed = decide("agree").await;
    assert!(agreed.starts_with(REDIRECT) && param(&agreed, "state").as_deref() == Some("st"));
    assert_eq!(world.exchange(&param(&agreed, "code").unwrap()).await.1["code"], 0);
    assert_eq!(param(&decide("decline").await, "error").as_deref(), Some("access_denied"));

    for (from, to) in [
        ("oauth%2Fcallback", "elsewhere"),
        (APP, "cli_0000000000000000"),
        ("S256", "plain"),
        ("scope=offline_access", "scope=a+a"),
        ("response_type=code", "response_type=token"),
    ] {
        let page = world.sim.open_url(&url.replace(from, to)).await.unwrap();
        assert_eq!(page.status, 400, "{from} → {to}");
    }
    assert!(CHALLENGE.len() == 43 && world.sim.issued_secrets().iter().any(|secret| secret == VERIFIER));
}

#[tokio::test]
async fn token_endpoint_above_limits_returns_429() {
    let world = world().await;
    let call = async || world.refresh(&json!("unknown")).await.0;
    for _ in 0..50 {
        assert_eq!(call().await, 400);
    }
    let response = world
        .http
        .post(world.url("/open-apis/authen/v2/oauth/token"))
        .json(&json!({"client_id": APP, "client_secret": SECRET, "grant_type": "refresh_token", "refresh_token": "x"}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 429);
    assert_eq!(response.headers()["x-ogw-ratelimit-reset"], "1");
    assert_eq!(response.json::<Value>().await.unwrap()["code"], 99_991_400);
    assert_eq!(world.violations(), [ViolationKind::LimitExceeded]);
    for _ in 0..19 {
        world.clock.advance(Duration::from_secs(1));
        for _ in 0..50 {
            assert_eq!(call().await, 400);
        }
    }
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(call().await, 429, "1000 a minute");
    world.clock.advance(Duration::from_secs(41));
    assert_eq!(call().await, 400);
}

#[tokio::test]
async fn tenant_token_with_half_an_hour_left_is_replaced() {
    let world = world().await;
    let first = world.tenant_token().await;
    world.clock.advance(Duration::from_secs(5300));
    assert_eq!(world.tenant_token().await, first);
    world.clock.advance(Duration::from_secs(200));
    assert_ne!(world.tenant_token().await, first);
    let path = format!("/open-apis/contact/v3/users/{}?user_id_type=open_id", world.user.open_id);
    assert_eq!(world.get(&path, &first).await.1["data"]["user"]["name"], world.user.name, "both are valid");
    world.clock.advance(Duration::from_secs(1800));
    assert_eq!(world.get(&path, &first).await.1["code"], 99_991_663);
}

#[tokio::test]
async fn contact_batch_above_fifty_is_refused_and_omits_out_of_range() {
    let world = world_with(|config| *config = config.clone().with_users(60)).await;
    let tenant = world.tenant_token().await;
    let users = world.sim.users();
    let path = |count: usize| {
        let ids: Vec<_> = users.iter().take(count).map(|user| format!("user_ids={}", user.open_id)).collect();
        format!("/open-apis/contact/v3/users/batch?user_id_type=open_id&{}", ids.join("&"))
    };
    world.sim.set_status(&users[0].open_id, UserStatus::OutOfRange).unwrap();
    let (_, body) = world.get(&path(50), &tenant).await;
    assert_eq!(body["data"]["items"].as_array().unwrap().len(), 49);
    assert_eq!(world.get(&path(51), &tenant).await.1["code"], 99_992_402);
}

#[tokio::test]
async fn open_id_of_another_application_is_refused() {
    const OTHER: &str = "cli_fedcba9876543210";
    let world = world_with(|config| config.apps.push(SimApp::new(OTHER, "other"))).await;
    let theirs = world.sim.open_id(OTHER, &world.user);
    assert_ne!(theirs, world.user.open_id);
    assert_eq!(world.sim.person(&theirs).unwrap(), world.user);
    let tenant = world.tenant_token().await;
    let path = format!("/open-apis/contact/v3/users/{theirs}?user_id_type=open_id");
    assert_eq!(world.get(&path, &tenant).await.1["code"], 99_992_361);
}
