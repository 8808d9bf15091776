use std::{net::SocketAddr, sync::Arc};

use axum::{
    http::request::Parts,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use super::*;

/// For what must happen; what must not is not waited for.
const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(3600);
const PATIENT: Limits = Limits { connections: 8, silence: NEVER, stall: NEVER };
const REQUEST: &str = "GET / HTTP/1.1\r\nhost: larkauth\r\n\r\n";
const HALF: &str = "GET / HTTP/1.1\r\nhost: la";

struct Server {
    addr: SocketAddr,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits, routes: Router) -> Self {
        Self::serving(limits, Served { routes, shortcut: None }).await
    }

    async fn serving(limits: Limits, served: Served) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, stopping) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = TaskTracker::new().spawn(serve_within(limits, listener, served, stopping.clone()));
        Self { addr, stopping, task }
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(self.addr).await.unwrap())
    }

    async fn stops(self) {
        self.stopping.cancel();
        timeout(SOON, self.task).await.expect("the server does not stop").unwrap();
    }
}

struct Client(TcpStream);

impl Client {
    async fn sends(mut self, text: &str) -> Self {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self
    }

    /// Reads one short answer.
    async fn gets_its_answer(mut self) -> Self {
        let mut answer = Vec::new();
        while !answer.ends_with(b"served") {
            let mut byte = [0];
            timeout(SOON, self.0.read_exact(&mut byte)).await.expect("no answer").expect("closed");
            answer.push(byte[0]);
        }
        self
    }

    async fn sees_the_end(mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(SOON, self.0.read_to_end(&mut rest)).await.expect("still open");
        assert_eq!(rest, b"");
    }
}

fn quick() -> Router {
    Router::new().route("/", get(|| async { "served" }))
}

#[tokio::test]
async fn connection_with_half_a_request_times_out() {
    let server = Server::start(Limits { silence: Duration::from_millis(50), ..PATIENT }, quick()).await;
    server.client().await.sends(HALF).await.sees_the_end().await;
    server.client().await.sees_the_end().await;
    server.client().await.sends(REQUEST).await.gets_its_answer().await.sees_the_end().await;
}

#[tokio::test]
async fn connections_above_limit_wait() {
    let server = Server::start(Limits { connections: 1, ..PATIENT }, quick()).await;
    let mut first = server.client().await.sends(REQUEST).await.gets_its_answer().await;
    let second = server.client().await.sends(REQUEST).await;
    for _ in 0..50 {
        first = first.sends(REQUEST).await.gets_its_answer().await;
        let nothing = second.0.try_read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "the second was served beside the first");
    }
    drop(first);
    second.gets_its_answer().await;
}

#[tokio::test]
async fn connections_at_limit_of_one_listener_leave_other_free() {
    let limits = Limits { connections: 1, ..PATIENT };
    let (full, free) = (Server::start(limits, quick()).await, Server::start(limits, quick()).await);
    let _held = full.client().await.sends(REQUEST).await.gets_its_answer().await;
    let waiting = full.client().await.sends(REQUEST).await;
    free.client().await.sends(REQUEST).await.gets_its_answer().await;
    assert_eq!(waiting.0.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn connection_that_takes_no_answer_is_closed() {
    let large = get(|| async { vec![0_u8; 64 << 20] });
    let limits = Limits { connections: 1, stall: Duration::from_millis(50), ..PATIENT };
    let server = Server::start(limits, quick().route("/large", large)).await;
    let _idle = server.client().await.sends(&REQUEST.replace(" / ", " /large ")).await;
    server.client().await.sends(REQUEST).await.gets_its_answer().await;
}

#[tokio::test]
async fn endless_head_is_answered_431() {
    let server = Server::start(PATIENT, quick()).await;
    let mut client = server.client().await.sends("GET / HTTP/1.1\r\nx: ").await;
    let filler = vec![b'a'; 2 * BUFFER];
    let mut answer = Vec::new();
    // The server may close before it has taken everything.
    let _ = client.0.write_all(&filler).await;
    let _ = timeout(SOON, client.0.read_to_end(&mut answer)).await.expect("still open");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"));
}

#[tokio::test]
async fn stop_closes_connection_without_request() {
    let server = Server::start(PATIENT, quick()).await;
    let _silent = server.client().await;
    let _half = server.client().await.sends(HALF).await;
    let _idle = server.client().await.sends(REQUEST).await.gets_its_answer().await;
    let _half_after_one =
        server.client().await.sends(REQUEST).await.gets_its_answer().await.sends(HALF).await;
    server.stops().await;
}

#[tokio::test]
async fn stop_answers_request_in_progress() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = get({
        let (begun, go_on) = (begun.clone(), go_on.clone());
        async move || {
            begun.notify_one();
            go_on.notified().await;
            "served"
        }
    });
    let server = Server::start(PATIENT, Router::new().route("/", slow)).await;
    let client = server.client().await.sends(REQUEST).await;
    begun.notified().await;
    server.stopping.cancel();
    go_on.notify_one();
    client.gets_its_answer().await.sees_the_end().await;
    server.stops().await;
}

/// Takes what begins with `/short`, and gives `/short/given-back` back.
struct Short;

impl Shortcut for Short {
    fn takes(&self, head: &Parts) -> bool {
        head.uri.path().starts_with("/short")
    }

    fn answer<'a>(
        &'a self,
        head: &'a mut Parts,
    ) -> Pin<Box<dyn Future<Output = Option<Response>> + Send + 'a>> {
        let is_given_back = head.uri.path().ends_with("given-back");
        Box::pin(async move { (!is_given_back).then(|| "shortcut served".into_response()) })
    }
}

#[tokio::test]
async fn request_that_shortcut_does_not_answer_reaches_router_whole() {
    let echo = |body: String| async move { format!("{body} served") };
    let routes = Router::new().fallback(echo);
    let server = Server::serving(PATIENT, Served { routes, shortcut: Some(Arc::new(Short)) }).await;
    let post =
        |path: &str| format!("POST {path} HTTP/1.1\r\nhost: larkauth\r\ncontent-length: 4\r\n\r\nbody");
    for (path, expected) in
        [("/short", "shortcut served"), ("/short/given-back", "body served"), ("/other", "body served")]
    {
        let mut client = server.client().await.sends(&post(path)).await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"served") {
            assert_ne!(timeout(SOON, client.0.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
        }
        assert!(String::from_utf8_lossy(&answer).ends_with(expected), "{path}");
    }
    server.stops().await;
}
