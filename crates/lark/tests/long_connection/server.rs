//! A test server with two sockets: discovery over HTTP, and the WebSocket that discovery leads to.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use larkauth_lark::frame::{Frame, Header, METHOD_CONTROL, METHOD_DATA, header};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, mpsc},
    task::JoinSet,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

/// How the WebSocket side treats a new connection.
#[derive(Clone)]
pub(crate) enum Handshake {
    Accept,
    /// Refuses the upgrade with these headers.
    Refuse(Vec<(&'static str, &'static str)>),
    /// Accepts the TCP connection and never answers.
    Hang,
    /// Answers one ping and closes the connection.
    CloseAfterPing,
}

pub(crate) struct Server {
    pub(crate) http: MockServer,
    pub(crate) address: SocketAddr,
    pub(crate) handshake: Arc<Mutex<Handshake>>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) pushes: broadcast::Sender<Frame>,
    pub(crate) answers: mpsc::UnboundedReceiver<Frame>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) most_open: AtomicUsize,
    pub(crate) pings: AtomicUsize,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handshake = Arc::new(Mutex::new(Handshake::Accept));
        let counts = Arc::new(Counts::default());
        let pushes = broadcast::Sender::new(64);
        let (answers_in, answers) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let (current_handshake, count, out) = (handshake.clone(), counts.clone(), pushes.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                count.accepted.fetch_add(1, Ordering::SeqCst);
                let handshake = current_handshake.lock().unwrap_or_else(PoisonError::into_inner).clone();
                connections.spawn(connection(
                    socket,
                    handshake,
                    count.clone(),
                    out.subscribe(),
                    answers_in.clone(),
                ));
            }
        });
        Self { http: MockServer::start().await, address, handshake, counts, pushes, answers, _tasks: tasks }
    }

    pub(crate) fn set_handshake(&self, handshake: Handshake) {
        *self.handshake.lock().unwrap_or_else(PoisonError::into_inner) = handshake;
    }

    /// Returns a successful response of discovery.
    pub(crate) fn endpoint(&self, scheme: &str) -> Value {
        self.endpoint_at(&format!("{scheme}://{}", self.address))
    }

    /// Returns a successful response of discovery with another origin.
    #[expect(clippy::unused_self, reason = "the response belongs to this server")]
    pub(crate) fn endpoint_at(&self, origin: &str) -> Value {
        json!({"code": 0, "msg": "", "data": {
            "URL": format!("{origin}/ws?device_id=d&service_id=7&ticket=TICKET"),
            "ClientConfig": {"ReconnectCount": -1, "ReconnectInterval": 120, "ReconnectNonce": 30, "PingInterval": 120}
        }})
    }

    /// Sets the responses of discovery: each once, in this order, and the last one from then on.
    pub(crate) async fn discovers(&self, answers: Vec<ResponseTemplate>) {
        let last = answers.len() - 1;
        for (i, answer) in answers.into_iter().enumerate() {
            let mock = Mock::given(matchers::method("POST"))
                .and(matchers::path("/callback/ws/endpoint"))
                .and(matchers::header("locale", "zh"))
                .and(matchers::body_json(json!({"AppID": "cli_0123456789abcdef", "AppSecret": "APP-SECRET"})))
                .respond_with(answer);
            let mock = if i < last { mock.up_to_n_times(1) } else { mock };
            mock.with_priority(u8::try_from(i + 1).unwrap()).mount(&self.http).await;
        }
    }

    pub(crate) async fn attempts(&self) -> usize {
        self.http.received_requests().await.unwrap().len()
    }

    pub(crate) fn push(&self, kind: &str, id: &str, payload: &str) {
        let headers = vec![Header::new(header::TYPE, kind), Header::new(header::MESSAGE_ID, id)];
        let payload = Some(payload.into());
        self.pushes.send(Frame { method: METHOD_DATA, headers, payload, ..Frame::default() }).unwrap();
    }

    pub(crate) async fn answer(&mut self) -> Value {
        let frame =
            tokio::time::timeout(Duration::from_secs(10), self.answers.recv()).await.unwrap().unwrap();
        serde_json::from_slice(frame.payload.as_deref().unwrap()).unwrap()
    }
}

async fn connection(
    socket: TcpStream,
    handshake: Handshake,
    counts: Arc<Counts>,
    mut pushes: broadcast::Receiver<Frame>,
    answers: mpsc::UnboundedSender<Frame>,
) {
    if matches!(handshake, Handshake::Hang) {
        return std::future::pending().await;
    }
    #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
    let check = |_: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let Handshake::Refuse(headers) = &handshake else { return Ok(response) };
        let mut refusal = http::Response::builder().status(400);
        for (name, value) in headers {
            refusal = refusal.header(*name, *value);
        }
        Err(refusal.body(None).unwrap())
    };
    let Ok(mut socket) = accept_hdr_async(socket, check).await else { return };
    counts.most_open.fetch_max(counts.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(Ok(message)) = message else { break };
                let Message::Binary(bytes) = message else { continue };
                let frame = Frame::decode(&*bytes).unwrap();
                if frame.method == METHOD_DATA {
                    answers.send(frame).unwrap();
                    continue;
                }
                counts.pings.fetch_add(1, Ordering::SeqCst);
                let headers = vec![Header::new(header::TYPE, "pong")];
                let pong = Frame { method: METHOD_CONTROL, headers, ..Frame::default() };
                socket.send(Message::Binary(pong.encode_to_vec().into())).await.ok();
                if matches!(handshake, Handshake::CloseAfterPing) {
                    break;
                }
            }
            Ok(push) = pushes.recv() => {
                socket.send(Message::Binary(push.encode_to_vec().into())).await.ok();
            }
        }
    }
    counts.open.fetch_sub(1, Ordering::SeqCst);
}
