//! A scripted server in the same process and a connection to it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{SinkExt, StreamExt};
use larkauth_models::{ManualClock, SeededEntropy, Timestamp};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::super::{
    dial::{ClientConfig, OpenConnection},
    *,
};
use crate::frame::{Frame, Header, METHOD_CONTROL, METHOD_DATA, header};

/// Far longer than any wait of a test, in paused time.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3600);
pub(super) const SERVICE: i32 = 33;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn network() -> ConnectError {
    ConnectError::Network { step: "discovery", reason: "refused".into() }
}

/// One step of the plan of a dial. An empty plan connects.
pub(super) enum DialStep {
    Fails(ConnectError),
    Hangs,
}

#[derive(Clone)]
pub(super) struct FakeDial {
    plan: Arc<Mutex<VecDeque<DialStep>>>,
    /// Whether dials fail when the plan is used up.
    then_fail: bool,
    attempts: Arc<Mutex<Vec<Instant>>>,
    servers: mpsc::UnboundedSender<Server>,
    ping_interval: i64,
    buffer: usize,
}

impl Dial for FakeDial {
    type Io = DuplexStream;

    async fn dial(&self) -> Result<OpenConnection<DuplexStream>, ConnectError> {
        lock(&self.attempts).push(Instant::now());
        let next = lock(&self.plan).pop_front();
        match next {
            Some(DialStep::Fails(error)) => return Err(error),
            Some(DialStep::Hangs) => return std::future::pending().await,
            None if self.then_fail => return Err(network()),
            None => {}
        }
        let (client_io, server_io) = tokio::io::duplex(self.buffer);
        let server = Server(WebSocketStream::from_raw_socket(server_io, Role::Server, None).await);
        self.servers.send(server).ok();
        let client_config = ClientConfig { ping_interval: self.ping_interval };
        let socket = WebSocketStream::from_raw_socket(client_io, Role::Client, None).await;
        Ok(OpenConnection { socket, service_id: SERVICE, client_config })
    }
}

/// The other end of a connection.
pub(super) struct Server(pub(super) WebSocketStream<DuplexStream>);

impl Server {
    pub(super) async fn frame(&mut self) -> Frame {
        match timeout(TIMEOUT, self.0.next()).await.unwrap() {
            Some(Ok(Message::Binary(bytes))) => Frame::decode(&*bytes).unwrap(),
            other => panic!("no frame but {other:?}"),
        }
    }
    /// Returns the next data frame and answers the pings before it.
    pub(super) async fn data(&mut self) -> (Frame, Value) {
        loop {
            let frame = self.frame().await;
            if frame.method == METHOD_DATA {
                let payload = serde_json::from_slice(frame.payload.as_deref().unwrap()).unwrap();
                return (frame, payload);
            }
            self.pong(None).await;
        }
    }
    /// Returns the next data frame and answers the pings before and after it.
    pub(super) async fn answer(&mut self) -> (Frame, Value) {
        let answer = self.data().await;
        self.welcome().await;
        answer
    }
    pub(super) async fn ping(&mut self) {
        let frame = self.frame().await;
        assert_eq!((frame.method, frame.header(header::TYPE)), (METHOD_CONTROL, Some("ping")));
        assert_eq!((frame.service, frame.seq_id, frame.log_id, frame.payload), (SERVICE, 0, 0, None));
    }
    pub(super) async fn send(&mut self, frame: Frame) {
        self.0.send(Message::Binary(frame.encode_to_vec().into())).await.unwrap();
    }
    pub(super) async fn pong(&mut self, config: Option<Value>) {
        let headers = vec![Header::new(header::TYPE, "pong")];
        let payload = config.map(|c| c.to_string().into_bytes());
        self.send(Frame { method: METHOD_CONTROL, headers, payload, ..Frame::default() }).await;
    }
    /// Answers a ping. After the first pong the client counts as connected.
    pub(super) async fn welcome(&mut self) {
        self.ping().await;
        self.pong(None).await;
    }
    pub(super) async fn push(&mut self, kind: &str, id: &str, payload: &str) {
        self.part(kind, id, 1, 0, payload).await;
    }
    pub(super) async fn part(&mut self, kind: &str, id: &str, sum: usize, seq: usize, payload: &str) {
        self.send(Frame {
            seq_id: 4,
            log_id: 5,
            service: SERVICE,
            method: METHOD_DATA,
            headers: vec![
                Header::new(header::TYPE, kind),
                Header::new(header::MESSAGE_ID, id),
                Header::new(header::TRACE_ID, "trace"),
                Header::new(header::SUM, sum.to_string()),
                Header::new(header::SEQ, seq.to_string()),
            ],
            payload: Some(payload.into()),
            ..Frame::default()
        })
        .await;
    }
}

/// Acts as the payload says, and records every push.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) pushes: Mutex<Vec<(PushKind, String, String)>>,
    pub(super) answered: Mutex<Vec<(String, bool)>>,
}

#[async_trait::async_trait]
impl PushHandler for Recorder {
    async fn handle(&self, push: Push) -> Answer {
        let payload = String::from_utf8(push.payload.clone()).unwrap();
        lock(&self.pushes).push((push.kind, push.message_id.clone(), payload.clone()));
        match payload.as_str() {
            "slow" => std::future::pending().await,
            "a second" => sleep(Duration::from_secs(1)).await,
            "panic" => panic!("the payload asks for a panic"),
            "fail" => return Answer::Failed,
            _ => {}
        }
        Answer::Ok((push.kind == PushKind::Card).then(|| json!({ "toast": payload })))
    }
    async fn answered(&self, push: &PushMeta, delivered: bool) {
        lock(&self.answered).push((push.message_id.clone(), delivered));
    }
}

#[derive(Default)]
pub(super) struct Outcomes(pub(super) Mutex<Vec<&'static str>>);

impl LongConnectionObserver for Outcomes {
    fn connect_attempted(&self, _: &AppId, outcome: &'static str) {
        lock(&self.0).push(outcome);
    }
}

/// A running connection and everything around it.
pub(super) struct Bench {
    pub(super) state: watch::Receiver<ConnectionState>,
    pub(super) servers: mpsc::UnboundedReceiver<Server>,
    pub(super) attempts: Arc<Mutex<Vec<Instant>>>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) shutdown: CancellationToken,
    pub(super) run: JoinSet<()>,
}

pub(super) struct Setup {
    pub(super) config: LongConnectionConfig,
    pub(super) plan: Vec<DialStep>,
    pub(super) then_fail: bool,
    pub(super) ping_interval: i64,
    pub(super) buffer: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: LongConnectionConfig::default(),
            plan: vec![],
            then_fail: false,
            ping_interval: 120,
            buffer: 1 << 16,
        }
    }
}

impl Setup {
    pub(super) fn start(self) -> Bench {
        let (servers_in, servers) = mpsc::unbounded_channel();
        let recorder = Arc::new(Recorder::default());
        let outcomes = Arc::new(Outcomes::default());
        let dial = FakeDial {
            plan: Arc::new(Mutex::new(self.plan.into())),
            then_fail: self.then_fail,
            attempts: Arc::default(),
            servers: servers_in,
            ping_interval: self.ping_interval,
            buffer: self.buffer,
        };
        let connection = LongConnection::new(
            reqwest::Client::builder().build().unwrap(),
            "http://127.0.0.1:1".parse().unwrap(),
            AppId::new("cli_0123456789abcdef").unwrap(),
            SecretString::from("secret"),
            self.config,
            recorder.clone(),
        )
        .with_clock(Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)))
        .with_entropy(Arc::new(SeededEntropy::new(1)))
        .with_observer(outcomes.clone());
        let shutdown = CancellationToken::new();
        let (state, attempts) = (connection.subscribe(), dial.attempts.clone());
        let mut run = JoinSet::new();
        run.spawn(connection.supervise(dial, shutdown.clone()));
        Bench { state, servers, attempts, recorder, outcomes, shutdown, run }
    }
}

impl Bench {
    pub(super) async fn reaches(&mut self, wanted: ConnectionState) {
        let reached = timeout(TIMEOUT, self.state.wait_for(|state| *state == wanted)).await.is_ok();
        assert!(reached, "{:?} instead of {wanted:?}", self.state.borrow());
    }
    pub(super) async fn connects(&mut self) -> Server {
        let mut server = timeout(TIMEOUT, self.servers.recv()).await.unwrap().unwrap();
        server.welcome().await;
        self.reaches(ConnectionState::Connected { since: Timestamp::UNIX_EPOCH }).await;
        server
    }
    pub(super) async fn answered(&self, count: usize) -> Vec<(String, bool)> {
        until(|| lock(&self.recorder.answered).len() >= count).await;
        lock(&self.recorder.answered).clone()
    }
    /// Returns the seconds between attempts.
    pub(super) fn waits(&self) -> Vec<f64> {
        lock(&self.attempts).windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
    }
    pub(super) async fn stops(mut self) {
        self.shutdown.cancel();
        timeout(TIMEOUT, self.run.join_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(*self.state.borrow(), ConnectionState::Stopped);
    }
}

pub(super) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(TIMEOUT, wait).await.unwrap();
}

pub(super) fn assert_about(waits: &[f64], expected: &[f64]) {
    assert_eq!(waits.len(), expected.len(), "{waits:?}");
    for (wait, expected) in waits.iter().zip(expected) {
        assert!((expected * 0.75 - 0.01..=expected * 1.25 + 0.01).contains(wait), "{waits:?}");
    }
}
