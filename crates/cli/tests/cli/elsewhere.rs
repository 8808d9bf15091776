//! The demo for services that it did not start, and the health check of a process by another one.

use std::{future::Future, net::TcpListener};

use reqwest::{Client, RequestBuilder, StatusCode, header, redirect::Policy};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, timeout};

use crate::stage::{APP_ID, APP_SECRET, Stage, TIMEOUT};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn client() -> Client {
    Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build().unwrap()
}

async fn body(request: RequestBuilder) -> Value {
    request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

async fn until<F: Future<Output = Option<Value>>>(look: impl Fn() -> F) -> Value {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, looking).await.unwrap()
}

/// A stage for one gateway and its Lark, neither of which runs yet. Returns the addresses of both.
async fn stage() -> (Stage, String, String) {
    let mut stage = Stage::new().await;
    let (gateway, lark) =
        (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
    let data = stage.database.path().with_file_name("data").display().to_string();
    for (name, value) in [
        ("APP_ID", APP_ID),
        ("APP_SECRET", APP_SECRET),
        ("API_KEY", "an-api-key-of-this-test"),
        ("LARK_BASE_URL", lark.as_str()),
        ("LARK_ACCOUNTS_URL", lark.as_str()),
        ("OAUTH_REDIRECT_URI", &format!("{gateway}/oauth/callback")),
        ("HTTP_ADDR", gateway.trim_start_matches("http://")),
        ("DATA_DIR", &data),
    ] {
        stage.set(name, value);
    }
    (stage, gateway, lark)
}

#[tokio::test]
async fn demo_of_services_elsewhere_turns_their_card_green() {
    let (stage, gateway, lark) = stage().await;
    let demo = stage.start(&["demo", "--no-open", "--port", "0", "--gateway", &gateway]).await;
    demo.says("the demo is open").await;
    let said = demo.out();
    let page = said.lines().find(|line| line.contains("the demo is open")).unwrap();
    let page = page[page.find("http://").unwrap()..].trim_end_matches('/').to_owned();
    let standalone = stage.standalone().await;

    let http = client();
    let post = |path: &str, body: Value| {
        http.post(format!("{page}{path}")).header(header::ORIGIN, page.as_str()).json(&body)
    };
    let people = body(http.get(format!("{lark}/_sim/users"))).await;
    let (open_id, union_id) = (&people[0]["open_id"], people[0]["union_id"].as_str().unwrap());
    let messages = || async {
        let url = format!("{lark}/_sim/messages?open_id={}", open_id.as_str().unwrap());
        body(http.get(url)).await.get(0).cloned()
    };
    let invited = body(post("/api/invite", json!({ "open_id": open_id }))).await;
    assert_eq!(invited["status"], 201, "{invited}");
    let message = until(messages).await;
    let click = json!({ "open_id": open_id, "message_id": message["message_id"], "button": 0 });
    let clicked = body(post("/api/click", click)).await;
    assert_eq!(clicked["answered"], true, "{clicked}");

    let consent = clicked["url"].as_str().unwrap().replacen(&lark, &page, 1);
    let decided = http
        .post(consent)
        .header(header::ORIGIN, page.as_str())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("user={union_id}&decision=agree"))
        .send()
        .await
        .unwrap();
    assert!(decided.status().is_redirection(), "{}", decided.status());
    let location = decided.headers()[header::LOCATION].to_str().unwrap();
    let result = http.get(format!("{page}{location}")).send().await.unwrap();
    assert!(result.status().is_success(), "{}", result.status());
    until(|| async { messages().await.filter(|message| message["card"]["header"]["template"] == "green") })
        .await;

    let token = body(post("/api/token", json!({ "open_id": open_id }))).await;
    assert_eq!(token["status"], 200, "{token}");
    assert!(token["curl"].as_str().unwrap().contains("Bearer $API_KEY"), "{token}");
    let moved = post("/api/two-hours", json!({})).send().await.unwrap();
    assert_eq!(moved.status(), StatusCode::CONFLICT, "the clock of services elsewhere is theirs");
    standalone.terminate().await.with(0);
    demo.terminate().await.with(0);
}

#[tokio::test]
async fn demo_of_services_elsewhere_needs_their_settings() {
    for missing in ["APP_ID", "API_KEY"] {
        let (mut stage, gateway, _) = stage().await;
        stage.env.remove(missing);
        if missing == "APP_ID" {
            stage.env.remove("APP_SECRET");
        }
        let ended = stage.run(&format!("demo --no-open --gateway {gateway}")).await.with(2);
        assert!(ended.err.contains(&format!("{missing} is not set")), "{}", ended.err);
    }
}

#[tokio::test]
async fn healthcheck_exits_0_when_ready_and_names_parts_that_do_not_work() {
    let (stage, ..) = stage().await;
    let ended = stage.run("healthcheck").await.with(1);
    assert!(ended.err.contains("does not answer"), "{}", ended.err);
    let standalone = stage.standalone().await;
    let ready = async {
        while stage.run("healthcheck").await.code != 0 {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(TIMEOUT, ready).await.unwrap();
    // Nothing answers as its Lark.
    let failing = async {
        loop {
            let ended = stage.run("healthcheck --all").await;
            if ended.code == 1 && ended.err.contains(&format!("websocket:{APP_ID}")) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(TIMEOUT, failing).await.unwrap();
    standalone.terminate().await.with(0);
}
