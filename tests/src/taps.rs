use std::{sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use lapin::{
    Channel,
    options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use larkauth_contracts::topology::{DEAD_EXCHANGE, EVENTS_EXCHANGE, RETRY_EXCHANGE};
use larkauth_messaging::testing::TestBus;
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinSet};

/// A proxy in front of the simulated Lark's API that records each call. Dropping it stops the server.
pub struct LarkTap {
    base_url: String,
    calls: Calls,
    _server: JoinSet<()>,
}

type Calls = Arc<Mutex<Vec<Call>>>;

/// A call to Lark.
#[derive(Clone, Debug)]
pub struct Call {
    /// Path without query.
    pub path: String,
    /// The header of that name.
    pub traceparent: Option<String>,
}

#[derive(Clone)]
struct Forward {
    to: String,
    http: reqwest::Client,
    calls: Calls,
}

impl LarkTap {
    /// Forwards to this base address.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(to: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let calls = Calls::default();
        let forward = Forward { to: to.to_owned(), http, calls: calls.clone() };
        let routes = Router::new().fallback(pass_on).with_state(forward);
        let mut server = JoinSet::new();
        server.spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { base_url, calls, _server: server })
    }

    /// For `LARK_BASE_URL`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }
}

async fn pass_on(
    State(forward): State<Forward>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Response {
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let call = Call { path: uri.path().to_owned(), traceparent };
    forward.calls.lock().push(call);
    for hop_by_hop in [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        headers.remove(hop_by_hop);
    }
    let url = format!("{}{uri}", forward.to);
    match forward.http.request(method, url).headers(headers).body(body).send().await {
        Ok(answer) => {
            let (status, content_type) =
                (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
            let mut response = (status, Body::from(answer.bytes().await.unwrap_or_default())).into_response();
            if let Some(content_type) = content_type {
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            }
            response
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// Gets a copy of every message that goes over the broker.
pub struct BusTap {
    channel: Channel,
    queue: String,
    dead_letters: String,
}

/// A message as the broker has it.
#[derive(Clone, Debug)]
pub struct RawMessage {
    /// Where it was published to.
    pub routing_key: String,
    /// The `traceparent` header.
    pub traceparent: Option<String>,
    /// All properties and headers, printed.
    pub properties: String,
    /// The body as text.
    pub body: String,
}

impl BusTap {
    /// Listens to exchanges that exist, so some service must have started before.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn start(bus: &TestBus) -> anyhow::Result<Self> {
        let channel = bus.channel().await;
        let named = |name: &str| format!("{}.{name}", bus.prefix());
        let queue = named("tap");
        // Lives as long as the broker's connection of the test.
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
        for exchange in [EVENTS_EXCHANGE, RETRY_EXCHANGE, DEAD_EXCHANGE].map(named) {
            let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
            channel
                .queue_bind(queue, exchange, "#".into(), QueueBindOptions::default(), FieldTable::default())
                .await?;
        }
        Ok(Self { channel, queue, dead_letters: bus.dead_letters_name() })
    }

    /// What was published since the last call.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn published(&self) -> anyhow::Result<Vec<RawMessage>> {
        self.take_all(&self.queue).await
    }

    /// Takes the dead letters.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn dead_letters(&self) -> anyhow::Result<Vec<RawMessage>> {
        self.take_all(&self.dead_letters).await
    }

    async fn take_all(&self, queue: &str) -> anyhow::Result<Vec<RawMessage>> {
        let mut messages = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(got) = self.channel.basic_get(queue.into(), options).await.context("the broker")? {
            let properties = &got.properties;
            let traceparent = match properties.headers().as_ref().and_then(|h| h.inner().get("traceparent")) {
                Some(AMQPValue::LongString(text)) => Some(text.to_string()),
                _ => None,
            };
            messages.push(RawMessage {
                routing_key: got.routing_key.to_string(),
                traceparent,
                properties: format!("{properties:?}"),
                body: String::from_utf8_lossy(&got.data).into_owned(),
            });
        }
        Ok(messages)
    }
}
