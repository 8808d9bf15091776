use std::{sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use larkauth_lark::frame::{Frame, Header, METHOD_CONTROL, header};
use larkauth_lark_sim::{Sim, SimApp, SimConfig, SimHandle, SimUser, ViolationKind};
use larkauth_models::{ManualClock, SeededEntropy, Timestamp};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

pub(crate) const APP: &str = "cli_0123456789abcdef";
pub(crate) const SECRET: &str = "the-app-secret";
pub(crate) const REDIRECT: &str = "http://127.0.0.1:8080/oauth/callback";
/// Deadline of every awaited event, long enough for a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// `BASE64URL(SHA256(VERIFIER))` is `CHALLENGE` (RFC 7636, appendix B).
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A platform with a manual clock, one application and three people.
pub(crate) struct World {
    pub(crate) sim: SimHandle,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) http: reqwest::Client,
    pub(crate) user: SimUser,
}

pub(crate) fn app() -> SimApp {
    SimApp::new(APP, SECRET)
}

pub(crate) async fn world() -> World {
    world_with(|_| {}).await
}

pub(crate) async fn world_with(change: impl FnOnce(&mut SimConfig)) -> World {
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH + chrono::TimeDelta::days(20_000)));
    let mut config = SimConfig::default().with_users(3).with_clock(clock.clone());
    config.apps = vec![app()];
    config.entropy = Arc::new(SeededEntropy::new(7));
    change(&mut config);
    let user = config.users[0].clone();
    let sim = Sim::start(config).await.unwrap();
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap();
    World { sim, clock, http, user }
}

impl World {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sim.base_url())
    }

    pub(crate) fn authorize_url(&self, scope: &str) -> String {
        let mut url = url::Url::parse(&self.url("/open-apis/authen/v1/authorize")).unwrap();
        url.query_pairs_mut()
            .append_pair("client_id", APP)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", REDIRECT)
            .append_pair("scope", scope)
            .append_pair("state", "st")
            .append_pair("code_challenge", CHALLENGE)
            .append_pair("code_challenge_method", "S256");
        url.into()
    }

    /// Returns a new authorization code of the first person.
    pub(crate) async fn code(&self, scope: &str) -> String {
        let redirect = self.sim.consent(&self.authorize_url(scope), &self.user.open_id).await.unwrap();
        param(&redirect, "code").unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.http.post(self.url(path)).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn token(&self, body: Value) -> (u16, Value) {
        let mut full = json!({"client_id": APP, "client_secret": SECRET});
        for (key, value) in body.as_object().unwrap() {
            full[key] = value.clone();
        }
        self.post("/open-apis/authen/v2/oauth/token", full).await
    }

    pub(crate) async fn exchange(&self, code: &str) -> (u16, Value) {
        self.token(code_grant(code)).await
    }

    pub(crate) async fn refresh(&self, token: &Value) -> (u16, Value) {
        self.token(json!({"grant_type": "refresh_token", "refresh_token": token})).await
    }

    /// Returns a token pair with `offline_access`.
    pub(crate) async fn pair(&self) -> Value {
        let (status, pair) = self.exchange(&self.code("offline_access").await).await;
        assert_eq!(status, 200, "{pair}");
        pair
    }

    pub(crate) async fn tenant_token(&self) -> String {
        let (_, body) = self
            .post(
                "/open-apis/auth/v3/tenant_access_token/internal",
                json!({"app_id": APP, "app_secret": SECRET}),
            )
            .await;
        body["tenant_access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, path: &str, bearer: &str) -> (u16, Value) {
        let response = self.http.get(self.url(path)).bearer_auth(bearer).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn send_as(
        &self,
        tenant: &str,
        open_id: &str,
        card: &Value,
        uuid: &str,
    ) -> (u16, Value) {
        let body = json!({"receive_id": open_id, "msg_type": "interactive", "content": card.to_string(), "uuid": uuid});
        let url = self.url("/open-apis/im/v1/messages?receive_id_type=open_id");
        let response = self.http.post(url).bearer_auth(tenant).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Sends a card to the first person. Returns its message id.
    pub(crate) async fn send(&self, card: &Value) -> String {
        let (status, body) = self.send_as(&self.tenant_token().await, &self.user.open_id, card, "").await;
        assert_eq!(status, 200, "{body}");
        body["data"]["message_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn patch(&self, message_id: &str, card: &Value) -> i64 {
        let url = self.url(&format!("/open-apis/im/v1/messages/{message_id}"));
        let body = json!({"content": card.to_string()});
        let response =
            self.http.patch(url).bearer_auth(self.tenant_token().await).json(&body).send().await.unwrap();
        response.json::<Value>().await.unwrap()["code"].as_i64().unwrap()
    }

    pub(crate) async fn delayed_update(&self, token: &Value, card: &Value) -> i64 {
        let url = self.url("/open-apis/interactive/v1/card/update");
        let body = json!({"token": token, "card": card});
        let response =
            self.http.post(url).bearer_auth(self.tenant_token().await).json(&body).send().await.unwrap();
        response.json::<Value>().await.unwrap()["code"].as_i64().unwrap()
    }

    pub(crate) async fn discover(&self) -> Value {
        self.post("/callback/ws/endpoint", json!({"AppID": APP, "AppSecret": SECRET})).await.1
    }

    pub(crate) async fn connect(&self) -> Client {
        let before = self.sim.connections(APP);
        let discovered = self.discover().await;
        let url = discovered["data"]["URL"].as_str().unwrap().to_owned();
        let service = param(&url, "service_id").unwrap().parse().unwrap();
        let (socket, _) = connect_async(url).await.unwrap();
        self.sim.wait_until(TIMEOUT, |sim| (sim.connections(APP) > before).then_some(())).await.unwrap();
        Client { socket, service }
    }

    pub(crate) fn violations(&self) -> Vec<ViolationKind> {
        self.sim.violations().iter().map(|violation| violation.kind).collect()
    }
}

pub(crate) fn code_grant(code: &str) -> Value {
    json!({"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER})
}

pub(crate) fn param(url: &str, name: &str) -> Option<String> {
    url::Url::parse(url)
        .unwrap()
        .query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// Returns a card of version 2 with one callback button.
pub(crate) fn card(text: &str) -> Value {
    json!({"schema": "2.0", "config": {"update_multi": true}, "body": {"elements": [
        {"tag": "markdown", "content": text},
        {"tag": "button", "name": "go", "text": {"tag": "plain_text", "content": "Go"},
         "behaviors": [{"type": "callback", "value": {"action": "go", "padding": "x".repeat(300)}}]},
    ]}})
}

/// A long connection without the project's client.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) service: i32,
}

impl Client {
    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.send_raw(frame.encode_to_vec()).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    pub(crate) async fn ping(&mut self) {
        let frame = Frame {
            service: self.service,
            method: METHOD_CONTROL,
            headers: vec![Header::new(header::TYPE, "ping")],
            ..Frame::default()
        };
        self.send(&frame).await;
    }

    /// Returns the next frame, or `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let next = tokio::time::timeout(TIMEOUT, self.socket.next()).await.expect("no frame in time");
        match next? {
            Ok(Message::Binary(bytes)) => Some(Frame::decode(&bytes[..]).unwrap()),
            Ok(Message::Close(_)) | Err(_) => None,
            Ok(other) => panic!("unexpected {other:?}"),
        }
    }

    pub(crate) async fn answer(&mut self, mut frame: Frame, answer: &Value) {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let data = BASE64_STANDARD.encode(answer.to_string());
        frame.headers.push(Header::new(header::BIZ_RT, "1"));
        frame.payload = Some(json!({"code": 200, "headers": null, "data": data}).to_string().into_bytes());
        self.send(&frame).await;
    }
}
