use std::time::Duration;

use larkauth_lark_sim::{Behaviour, FaceOrigin, UserStatus, ViolationKind};
use serde_json::{Value, json};

use crate::support::{TIMEOUT, card, world, world_with};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn send_with_known_uuid_returns_first_message_for_an_hour() {
    let world = world().await;
    let tenant = world.tenant_token().await;
    let send = async || world.send_as(&tenant, &world.user.open_id, &card("hi"), "same").await.1;
    let first = send().await;
    assert_eq!(send().await["data"]["message_id"], first["data"]["message_id"]);
    assert_eq!(world.sim.messages_for(&world.user.open_id).len(), 1);
    world.clock.advance(Duration::from_secs(3600));
    let tenant = world.tenant_token().await;
    let later = world.send_as(&tenant, &world.user.open_id, &card("hi"), "same").await.1;
    assert_ne!(later["data"]["message_id"], first["data"]["message_id"]);
    let long = world.send_as(&tenant, &world.user.open_id, &card("hi"), &"x".repeat(51)).await.1;
    assert_eq!(long["code"], 230_001);
}

#[tokio::test]
async fn contact_ids_by_mail_and_mobile_returns_visible_people() {
    let world = world().await;
    let tenant = world.tenant_token().await;
    let (mail, mobile) = (world.user.email.clone().unwrap(), world.user.mobile.clone().unwrap());
    let ask = async |body: Value| {
        let url = world.url("/open-apis/contact/v3/users/batch_get_id?user_id_type=open_id");
        let response = world.http.post(url).bearer_auth(&tenant).json(&body).send().await.unwrap();
        response.json::<Value>().await.unwrap()
    };
    let body = json!({"emails": [mail, "unknown@mail.example.com"], "mobiles": [mobile]});
    let open_id = &world.user.open_id;
    assert_eq!(
        ask(body.clone()).await["data"]["user_list"],
        json!([
            {"email": mail, "user_id": open_id},
            {"email": "unknown@mail.example.com"},
            {"mobile": mobile, "user_id": open_id},
        ])
    );
    world.sim.set_status(open_id, UserStatus::OutOfRange).unwrap();
    assert_eq!(ask(body).await["data"]["user_list"][0], json!({"email": mail}));
    assert_eq!(ask(json!({"emails": []})).await["code"], 99_992_402);
    assert_eq!(ask(json!({"emails": vec!["a"; 51]})).await["code"], 99_992_402);
}

#[tokio::test]
async fn send_to_unreachable_person_returns_code_of_reason() {
    let world = world().await;
    let tenant = world.tenant_token().await;
    for (status, code) in [
        (UserStatus::OutOfRange, 230_013),
        (UserStatus::Resigned, 230_029),
        (UserStatus::BotStopped, 230_053),
    ] {
        world.sim.set_status(&world.user.open_id, status).unwrap();
        assert_eq!(world.send_as(&tenant, &world.user.open_id, &card("hi"), "").await.1["code"], code);
    }
    assert_eq!(world.send_as(&tenant, "ou_unknown", &card("hi"), "").await.1["code"], 230_034);
    assert_eq!(world.send_as("t-wrong", "ou_unknown", &card("hi"), "").await.1["code"], 99_991_663);
}

#[tokio::test]
async fn send_above_size_or_rate_limit_returns_code_and_notes_violation() {
    let world = world().await;
    let tenant = world.tenant_token().await;
    let big = card(&"x".repeat(31 * 1024));
    assert_eq!(world.send_as(&tenant, &world.user.open_id, &big, "").await.1["code"], 230_025);
    assert_eq!(world.violations(), [ViolationKind::MessageTooLarge]);
    world.sim.clear_violations();
    for _ in 0..5 {
        assert_eq!(world.send_as(&tenant, &world.user.open_id, &card("hi"), "").await.1["code"], 0);
    }
    assert_eq!(world.send_as(&tenant, &world.user.open_id, &card("hi"), "").await.1["code"], 230_020);
    assert_eq!(world.violations(), [ViolationKind::LimitExceeded]);
}

#[tokio::test]
async fn update_of_unshared_mixed_or_old_card_is_refused() {
    let world = world().await;
    let id = world.send(&card("one")).await;
    assert_eq!(world.patch(&id, &card("two")).await, 0);
    let message = world.sim.message(&id).unwrap();
    assert_eq!(message.faces.len(), 2);
    assert_eq!(message.faces[1].origin, FaceOrigin::Update);
    assert_eq!(message.card()["body"]["elements"][0]["content"], "two");
    let mut private = card("three");
    private["config"]["update_multi"] = json!(false);
    assert_eq!(world.patch(&id, &private).await, 230_001);
    let old_version = json!({"config": {"update_multi": true}, "elements": []});
    assert_eq!(world.patch(&id, &old_version).await, 230_099);
    assert_eq!(world.patch("om_unknown", &card("x")).await, 230_001);

    world.sim.recall(&id).unwrap();
    assert_eq!(world.patch(&id, &card("x")).await, 230_011);
    let id = world.send(&card("one")).await;
    world.sim.delete_message(&id).unwrap();
    assert_eq!(world.patch(&id, &card("x")).await, 230_110);
    let id = world.send(&card("one")).await;
    world.clock.advance(14 * DAY);
    assert_eq!(world.patch(&id, &card("x")).await, 230_031);
}

#[tokio::test]
async fn behaviour_of_person_consents_or_declines_and_follows_redirect() {
    for (behaviour, expected) in [(Behaviour::Consent, "code"), (Behaviour::Decline, "error")] {
        let (redirect_uri, mut seen) = browser_target().await;
        let world = world_with(|config| {
            config.reaction = Duration::ZERO;
            config.behaviour = behaviour;
            config.apps[0].redirect_uris = vec![redirect_uri.clone()];
        })
        .await;
        let mut client = world.connect().await;
        let mut invitation = card("please");
        let mut url = url::Url::parse(&world.authorize_url("offline_access")).unwrap();
        let pairs: Vec<_> = url.query_pairs().into_owned().filter(|(key, _)| key != "redirect_uri").collect();
        url.query_pairs_mut().clear().extend_pairs(pairs).append_pair("redirect_uri", &redirect_uri);
        invitation["body"]["elements"][1]["behaviors"] = json!([{"type": "open_url", "default_url": url}, {"type": "callback", "value": {"action": "go"}}]);
        world.send(&invitation).await;
        let frame = client.next().await.unwrap();
        client.answer(frame, &json!({})).await;
        let query = tokio::time::timeout(TIMEOUT, seen.recv()).await.unwrap().unwrap();
        assert!(query.contains(&format!("{expected}=")) && query.contains("state=st"), "{query}");
    }
}

/// Returns a redirect URI and the queries of the browsers that follow it.
async fn browser_target() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (tell, seen) = tokio::sync::mpsc::unbounded_channel();
    let handler = |axum::extract::RawQuery(query): axum::extract::RawQuery| async move {
        tell.send(query.unwrap_or_default()).unwrap();
        "thank you"
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/done", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/done", axum::routing::get(handler));
    #[expect(clippy::disallowed_methods, reason = "runs as long as its test")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}
