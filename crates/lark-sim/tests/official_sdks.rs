//! The official SDKs as real clients: what they connect to, understand and answer is the long connection.
//!
//! Needs `eval "$(scripts/sdk-setup)" && export LARKAUTH_SDK_PYTHON LARKAUTH_SDK_NODE`.

#![cfg(test)]

use std::{env, path::Path, process::Stdio, time::Duration};

use larkauth_lark_sim::{Effect, Endpoint, Fault, Frames, Sim, SimConfig, SimHandle};
use larkauth_models::ExposeSecret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

const PATIENCE: Duration = Duration::from_secs(60);
const TOAST: &str = "已收到 received";

fn sdk(variable: &str) -> String {
    match env::var(variable) {
        Ok(value) => value,
        Err(_) => panic!("{variable} is not set: run `eval \"$(scripts/sdk-setup)\"` and export it"),
    }
}

/// An SDK's client as a child process; killed when dropped.
struct Client {
    _process: Child,
    steps: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(sim: &Sim, program: &str, script: &str) -> Self {
        let app = sim.apps().remove(0);
        let mut process = Command::new(program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(script))
            .env("LARK_BASE_URL", sim.base_url())
            .env("APP_ID", &app.app_id)
            .env("APP_SECRET", app.secret.expose_secret())
            .env("TOAST", TOAST)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}: run scripts/sdk-setup"));
        let steps = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, steps }
    }

    /// The next step of this name.
    async fn step(&mut self, name: &str) -> Value {
        let find = async {
            while let Some(line) = self.steps.next_line().await.unwrap() {
                // An SDK may print lines of its own.
                let step: Value = serde_json::from_str(&line).unwrap_or_default();
                if step["step"] == name {
                    return step;
                }
            }
            panic!("the client ended without {name}");
        };
        tokio::time::timeout(PATIENCE, find).await.unwrap_or_else(|_| panic!("no {name} within {PATIENCE:?}"))
    }
}

/// Sends a card the way an application does; gives its message id.
async fn send_card(sim: &Sim, open_id: &str) -> String {
    let app = sim.apps().remove(0);
    let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap();
    let post = async |path: &str, bearer: &str, body: Value| -> Value {
        let url = format!("{}{path}", sim.base_url());
        http.post(url).bearer_auth(bearer).json(&body).send().await.unwrap().json().await.unwrap()
    };
    let credentials = json!({"app_id": app.app_id, "app_secret": app.secret.expose_secret()});
    let token = post("/open-apis/auth/v3/tenant_access_token/internal", "", credentials).await;
    let card = json!({"schema": "2.0", "config": {"update_multi": true}, "body": {"elements": [
        {"tag": "button", "text": {"tag": "plain_text", "content": "好"},
         "behaviors": [{"type": "callback", "value": {"action": "authorize", "note": "多字节 ".repeat(50)}}]}]}});
    let body = json!({"receive_id": open_id, "msg_type": "interactive", "content": card.to_string()});
    let bearer = token["tenant_access_token"].as_str().unwrap();
    let sent = post("/open-apis/im/v1/messages?receive_id_type=open_id", bearer, body).await;
    sent["data"]["message_id"].as_str().unwrap().to_owned()
}

async fn started() -> (SimHandle, String) {
    let sim = Sim::start(SimConfig::demo()).await.unwrap();
    let app_id = sim.apps().remove(0).app_id;
    (sim, app_id)
}

async fn talks(program: &str, script: &str) {
    let (sim, app_id) = started().await;
    let mut client = Client::start(&sim, program, script);
    client.step("start").await;
    sim.wait_until(PATIENCE, |sim| (sim.connections(&app_id) == 1 && sim.stats().pings >= 1).then_some(()))
        .await
        .unwrap();

    let user = sim.users().remove(0);
    let shapes = [
        Frames::default(),
        Frames::split(2),
        Frames::split(7),
        Frames { shuffle: true, ..Frames::split(5) },
        Frames { shuffle: true, interleave: true, ..Frames::split(4) },
    ];
    for shape in shapes {
        sim.faults().push(Fault::at(Endpoint::Push, Effect::Frames(shape)));
        let message_id = send_card(&sim, &user.open_id).await;
        let outcome = sim.click(&message_id, "authorize", &user.open_id).await.unwrap();
        assert!(outcome.answered, "{shape:?}: {outcome:?}");
        assert_eq!(outcome.toast.as_ref().unwrap()["content"], TOAST, "{shape:?}");
        let click = client.step("click").await;
        assert_eq!(click["message_id"], message_id);
        assert_eq!(click["open_id"], user.open_id);
        assert_eq!(click["value"]["action"], "authorize");
    }
    assert_eq!(sim.violations(), [], "an official client does nothing wrong");
    sim.shutdown().await;
}

#[tokio::test]
async fn the_python_sdk_talks_to_the_simulator() {
    talks(&sdk("LARKAUTH_SDK_PYTHON"), "python_client.py").await;
}

#[tokio::test]
async fn the_node_sdk_talks_to_the_simulator() {
    sdk("LARKAUTH_SDK_NODE");
    talks("node", "node_client.mjs").await;
}
