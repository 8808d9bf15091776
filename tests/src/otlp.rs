use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::Bytes, extract::State, routing::post};
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};

/// An OpenTelemetry collector (OTLP/HTTP, protobuf) that keeps the bodies it receives. Dropping it stops the server.
pub struct Collector {
    endpoint: String,
    bodies: Bodies,
    _server: JoinSet<()>,
}

type Bodies = Arc<Mutex<Vec<Bytes>>>;

/// A span as it was exported.
#[derive(Clone, Debug)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// `service.name` of the process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Texts only.
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let bodies = Bodies::default();
        let routes = Router::new().route("/v1/traces", post(keep)).with_state(bodies.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { endpoint, bodies, _server: server })
    }

    /// Returns the value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns every received body.
    #[must_use]
    pub fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().clone()
    }

    /// Returns every span of every body.
    ///
    /// # Errors
    /// When a body is not an export of traces.
    pub fn spans(&self) -> anyhow::Result<Vec<Span>> {
        let mut spans = Vec::new();
        for body in self.bodies() {
            for resource in wire::Export::decode(body)?.resource_spans {
                let service = texts(&resource.resource.unwrap_or_default().attributes).remove("service.name");
                let service = service.unwrap_or_default();
                spans.extend(resource.scope_spans.iter().flat_map(|scope| &scope.spans).map(|span| Span {
                    trace_id: hex::encode(&span.trace_id),
                    service: service.clone(),
                    name: span.name.clone(),
                    attributes: texts(&span.attributes),
                }));
            }
        }
        Ok(spans)
    }
}

async fn keep(State(bodies): State<Bodies>, body: Bytes) {
    bodies.lock().push(body);
}

fn texts(attributes: &[wire::KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &wire::KeyValue| Some((pair.key.clone(), pair.value.as_ref()?.string.clone()?));
    attributes.iter().filter_map(text).collect()
}

/// The fields that are read of `opentelemetry/proto/collector/trace/v1/trace_service.proto` and its imports.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Export {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AnyValue {
        #[prost(string, optional, tag = "1")]
        pub(super) string: Option<String>,
    }
}
