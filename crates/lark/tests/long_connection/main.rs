//! The long connection over real sockets. The unit tests verify timing with paused time; these tests only bound it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests count as tests")]

mod server;

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use larkauth_lark::long_connection::{
    Answer, ConnectionState, LongConnection, LongConnectionConfig, LongConnectionObserver, Push, PushHandler,
    PushKind,
};
use larkauth_models::{AppId, SecretString};
use larkauth_net::{
    Network, Proxies, ProxyUrl,
    testing::{Authority, HttpProxy, TlsServer, Validity},
};
use serde_json::{Value, json};
use server::{Handshake, Server};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use wiremock::ResponseTemplate;

const TIMEOUT: Duration = Duration::from_secs(10);

struct Echo;

#[async_trait::async_trait]
impl PushHandler for Echo {
    async fn handle(&self, push: Push) -> Answer {
        let kind = if push.kind == PushKind::Card { "card" } else { "event" };
        Answer::Ok(Some(json!({ "kind": kind, "payload": String::from_utf8(push.payload).unwrap() })))
    }
}

#[derive(Default)]
struct Outcomes(Mutex<Vec<&'static str>>);

impl LongConnectionObserver for Outcomes {
    fn connect_attempted(&self, _: &AppId, outcome: &'static str) {
        self.0.lock().unwrap().push(outcome);
    }
}

struct Client {
    state: watch::Receiver<ConnectionState>,
    outcomes: Arc<Outcomes>,
    shutdown: CancellationToken,
    run: JoinSet<()>,
}

impl Client {
    fn start(server: &Server) -> Self {
        Self::start_in(server, Network::default(), Duration::from_millis(300))
    }
    fn start_in(server: &Server, network: Network, handshake_deadline: Duration) -> Self {
        let config = LongConnectionConfig {
            heartbeat_interval: Duration::from_millis(20),
            backoff_base: Duration::from_millis(5),
            backoff_cap: Duration::from_millis(20),
            rejected_retry_interval: Duration::from_millis(20),
            discovery_deadline: Duration::from_millis(300),
            handshake_deadline,
            ..LongConnectionConfig::default()
        };
        let outcomes = Arc::new(Outcomes::default());
        let connection = LongConnection::new(
            reqwest::Client::builder().build().unwrap(),
            server.http.uri().parse().unwrap(),
            AppId::new("cli_0123456789abcdef").unwrap(),
            SecretString::from("APP-SECRET"),
            config,
            Arc::new(Echo),
        )
        .with_network(network)
        .with_observer(outcomes.clone());
        let shutdown = CancellationToken::new();
        let state = connection.subscribe();
        let mut run = JoinSet::new();
        run.spawn(connection.run(shutdown.clone()));
        Self { state, outcomes, shutdown, run }
    }
    async fn reaches(&mut self, wanted: &str) -> ConnectionState {
        let reached = timeout(TIMEOUT, self.state.wait_for(|state| state.as_str() == wanted)).await;
        reached.unwrap_or_else(|_| panic!("never {wanted}")).unwrap().clone()
    }
    async fn tries(&self, outcome: &str, times: usize) {
        until(|| self.outcomes.0.lock().unwrap().iter().filter(|o| **o == outcome).count() >= times).await;
    }
    async fn stops(mut self) {
        self.shutdown.cancel();
        timeout(TIMEOUT, self.run.join_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(*self.state.borrow(), ConnectionState::Stopped);
    }
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(TIMEOUT, wait).await.unwrap();
}

fn json_answer(body: impl serde::Serialize) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn data(answer: &Value) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    serde_json::from_slice(&BASE64_STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn run_over_sockets_pings_answers_pushes_and_stops() {
    let mut server = Server::start().await;
    server.discovers(vec![json_answer(server.endpoint("ws"))]).await;
    let mut client = Client::start(&server);
    client.reaches("connected").await;
    server.push("event", "m1", "one");
    assert_eq!(data(&server.answer().await), json!({"kind": "event", "payload": "one"}));
    server.push("card", "m2", "two");
    assert_eq!(data(&server.answer().await), json!({"kind": "card", "payload": "two"}));
    until(|| server.counts.pings.load(Ordering::SeqCst) >= 3).await;
    client.stops().await;
    until(|| server.counts.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn discovery_every_failure_is_retried() {
    let server = Server::start().await;
    server
        .discovers(vec![
            json_answer(json!({"code": 1, "msg": "busy"})),
            json_answer(json!({"code": 1_000_040_343, "msg": "internal", "data": {}})),
            ResponseTemplate::new(503),
            ResponseTemplate::new(200).set_body_string("<html>"),
            ResponseTemplate::new(200).set_body_string("x".repeat(2_000_000)),
            json_answer(json!({"code": 1_000_040_350, "msg": "too many"})),
            json_answer(json!({"code": 1_000_040_344, "msg": "wrong secret"})),
            json_answer(server.endpoint("ws")).set_delay(Duration::from_secs(60)),
            json_answer(server.endpoint("ws")),
        ])
        .await;
    let mut client = Client::start(&server);
    client.reaches("connected").await;
    assert_eq!(
        *client.outcomes.0.lock().unwrap(),
        [
            "busy",
            "busy",
            "http_status",
            "malformed",
            "malformed",
            "too_many_connections",
            "rejected",
            "timeout",
            "connected"
        ]
    );
    client.stops().await;
}

#[tokio::test]
async fn handshake_every_refusal_reports_its_outcome() {
    let server = Server::start().await;
    server.discovers(vec![json_answer(server.endpoint("ws"))]).await;
    server
        .set_handshake(Handshake::Refuse(vec![("Handshake-Status", "403"), ("Handshake-Msg", "forbidden")]));
    let mut client = Client::start(&server);
    let state = client.reaches("rejected").await;
    assert!(!state.is_connected() && format!("{state:?}").contains("forbidden"), "{state:?}");
    server.set_handshake(Handshake::Refuse(vec![
        ("Handshake-Status", "514"),
        ("Handshake-Autherrcode", "1000040350"),
    ]));
    client.tries("too_many_connections", 2).await;
    server.set_handshake(Handshake::Refuse(vec![("Handshake-Status", "500")]));
    client.tries("refused", 2).await;
    server.set_handshake(Handshake::Refuse(vec![]));
    client.tries("http_status", 2).await;
    server.set_handshake(Handshake::Hang);
    client.tries("timeout", 1).await;
    server.set_handshake(Handshake::Accept);
    client.reaches("connected").await;
    client.stops().await;
}

#[tokio::test]
async fn run_connection_lost_reconnects_with_one_connection_at_a_time() {
    let server = Server::start().await;
    server.discovers(vec![json_answer(server.endpoint("ws"))]).await;
    server.set_handshake(Handshake::CloseAfterPing);
    let mut client = Client::start(&server);
    client.tries("connected", 30).await;
    server.set_handshake(Handshake::Accept);
    until(|| server.counts.open.load(Ordering::SeqCst) == 1).await;
    client.reaches("connected").await;
    let accepted = server.counts.accepted.load(Ordering::SeqCst);
    let pings = server.counts.pings.load(Ordering::SeqCst);
    until(|| server.counts.pings.load(Ordering::SeqCst) >= pings + 10).await;
    assert_eq!(server.counts.accepted.load(Ordering::SeqCst), accepted);
    assert_eq!(server.counts.most_open.load(Ordering::SeqCst), 1);
    // Every connection is preceded by one discovery, and there is no other discovery.
    assert_eq!(server.attempts().await, accepted);
    client.stops().await;
}

#[tokio::test]
async fn run_wss_address_speaks_tls() {
    let server = Server::start().await;
    server.discovers(vec![json_answer(server.endpoint("wss"))]).await;
    // The server expects an upgrade request and fails on the TLS client hello.
    let client = Client::start(&server);
    client.tries("network", 1).await;
    client.stops().await;
}

/// Makes a network with a private authority and a proxy.
fn network(authority: &Authority, proxy: &HttpProxy) -> Network {
    let proxy = ProxyUrl::parse(&format!("http://me:s3cret@{}", proxy.address())).ok();
    Network::new(authority.trust(), Proxies::new(None, proxy, ""))
}

#[tokio::test]
async fn run_through_proxy_and_tls_answers_pushes() {
    let mut server = Server::start().await;
    let authority = Authority::new();
    let certificate = authority.issue(&["frontier.lark.test"], Validity::Now).server_config();
    let tls = TlsServer::in_front_of(server.address, certificate).await;
    let proxy = HttpProxy::start(Some(tls.address()), None, Some("Basic bWU6czNjcmV0")).await;
    server.discovers(vec![json_answer(server.endpoint_at("wss://frontier.lark.test:8443"))]).await;
    let mut client = Client::start_in(&server, network(&authority, &proxy), TIMEOUT);
    client.reaches("connected").await;
    server.push("event", "m1", "one");
    assert_eq!(data(&server.answer().await), json!({"kind": "event", "payload": "one"}));
    // Discovery went to this machine without the proxy.
    let targets: Vec<_> = proxy.seen().into_iter().map(|connect| connect.target).collect();
    assert_eq!(targets, ["frontier.lark.test:8443"]);
    client.stops().await;
}
