//! The client against a scripted server.

mod answers;
mod app_token;
mod lenient;
mod message;
mod oauth;
mod person;
mod rate_limiter;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use larkauth_models::{AppId, Clock, ManualClock, SecretString, Timestamp};
use larkauth_net::Network;
use serde_json::{Value, json};
use url::Url;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use crate::{
    api::{CallObserver, Endpoints, LarkClient, LarkClientOptions, LocalRateLimiter, RateLimiter},
    http::{HttpTimeouts, http_client},
};

/// Returns a deadline that leaves enough time for any call.
fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(20)
}

const APP_ID: &str = "cli_0123456789abcdef";
const APP_SECRET: &str = "app-secret-value";
const TENANT_PATH: &str = "/open-apis/auth/v3/tenant_access_token/internal";
const APP_PATH: &str = "/open-apis/auth/v3/app_access_token/internal";

/// Records every call and adds a trace header to each.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl CallObserver for Recorder {
    fn called(&self, app_id: &AppId, api: &'static str, outcome_label: &str, _: Duration) {
        assert_eq!(app_id.as_str(), APP_ID);
        self.0.lock().unwrap().push(format!("{api} {outcome_label}"));
    }
    fn inject_headers(&self, headers: &mut http::HeaderMap) {
        headers.insert("traceparent", http::HeaderValue::from_static("00-trace-span-01"));
    }
}

struct Lark {
    server: MockServer,
    client: LarkClient,
    clock: Arc<ManualClock>,
    recorder: Arc<Recorder>,
}

impl Lark {
    async fn start() -> Self {
        let server = MockServer::start().await;
        let clock = Arc::new(ManualClock::at(start_of_time()));
        let recorder = Arc::new(Recorder::default());
        let client = client(&server.uri(), clock.clone(), recorder.clone());
        Self { server, client, clock, recorder }
    }

    /// As [`start`](Self::start), with a tenant token.
    async fn with_tenant_token() -> Self {
        let lark = Self::start().await;
        lark.answer("POST", TENANT_PATH, tenant_token("t-1", 7200)).await;
        lark
    }

    async fn answer(&self, http_method: &str, at: &str, answer: ResponseTemplate) {
        Mock::given(method(http_method)).and(path(at)).respond_with(answer).mount(&self.server).await;
    }

    /// Answers the first `times` requests. An answer that is mounted later answers the rest.
    async fn answer_first(&self, times: u64, http_method: &str, at: &str, answer: ResponseTemplate) {
        let mock = Mock::given(method(http_method)).and(path(at)).respond_with(answer);
        mock.up_to_n_times(times).mount(&self.server).await;
    }

    async fn bodies(&self, at: &str) -> Vec<Value> {
        let requests = self.server.received_requests().await.unwrap();
        let matching = requests.iter().filter(|request| request.url.path() == at);
        matching.map(|request| serde_json::from_slice(&request.body).unwrap_or_default()).collect()
    }

    async fn count(&self, at: &str) -> usize {
        self.bodies(at).await.len()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.recorder.0.lock().unwrap())
    }
}

fn client(address: &str, clock: Arc<dyn Clock>, observer: Arc<dyn CallObserver>) -> LarkClient {
    limited_client(address, clock, observer, Arc::new(LocalRateLimiter::default()))
}

fn limited_client(
    address: &str,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn CallObserver>,
    rate_limiter: Arc<dyn RateLimiter>,
) -> LarkClient {
    let timeouts = HttpTimeouts { total: Duration::from_millis(1500), ..HttpTimeouts::default() };
    let url = Url::parse(address).unwrap();
    LarkClient::new(LarkClientOptions {
        http: http_client(&timeouts, &Network::default()).unwrap(),
        endpoints: Endpoints { base_url: url.clone(), accounts_url: url },
        app_id: AppId::new(APP_ID).unwrap(),
        app_secret: SecretString::from(APP_SECRET),
        clock,
        observer,
        rate_limiter,
    })
}

fn start_of_time() -> Timestamp {
    Timestamp::from_timestamp_millis(1_700_000_000_000).unwrap()
}

fn after(seconds: u64) -> Timestamp {
    start_of_time() + Duration::from_secs(seconds)
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn ok(body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn refusal(status: u16, code: i64) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "code": code, "msg": "echoes app-secret-value" }))
}

fn tenant_token(token: &str, expire: u32) -> ResponseTemplate {
    ok(&json!({ "code": 0, "msg": "ok", "tenant_access_token": token, "expire": expire }))
}
