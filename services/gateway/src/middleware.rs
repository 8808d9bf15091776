//! What every request of every router passes through: its id, its span, the size of its head.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Uri},
    middleware::Next,
    response::{IntoResponse, Response},
};
use larkauth_auth::Context;
use larkauth_telemetry::propagation;
use tokio::time::Instant;
use tracing::{Instrument, field::Empty};

use crate::problem::{ApiError, ProblemReporter};

/// Most bytes of all header names and values.
const MAX_HEADERS: usize = 16 << 10;
/// Most bytes of path and query.
const MAX_URI: usize = 8 << 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, for handlers.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// What the observation of a listener's requests needs.
#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) context: Context,
    pub(crate) reporter: Arc<ProblemReporter>,
}

/// Gives the request its id and its span; completes, logs and counts the answer. Outermost.
pub(crate) async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request_id(&request, &observer.context);
    request.extensions_mut().insert(RequestId(request_id.clone()));
    let route = route(&request).to_owned();
    let method = request.method().clone();
    // Neither the query nor a header: both carry secrets.
    let span = tracing::info_span!(
        "gateway.http.request",
        method = %method, route, request_id, app_id = Empty, session_id = Empty, status = Empty,
    );
    propagation::set_parent_from_headers(&span, request.headers());
    async {
        let mut response = observer.reporter.finish(next.run(request).await, &request_id);
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let took = started.elapsed();
        tracing::Span::current().record("status", response.status().as_u16());
        observer.context.metrics().http_request(&route, &method, response.status(), took);
        tracing::debug!(
            status = response.status().as_u16(),
            took_ms = took.as_millis(),
            "gateway.http.served"
        );
        response
    }
    .instrument(span)
    .await
}

/// Returns the pattern that matched, never the path itself.
fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str)
}

/// Returns the caller's id if it is harmless, else a new one.
fn request_id(request: &Request, context: &Context) -> String {
    let harmless = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(harmless);
    given.map_or_else(|| context.new_uuid().to_string(), str::to_owned)
}

/// Refuses a request whose head is too large.
pub(crate) async fn limit_head(request: Request, next: Next) -> Response {
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > MAX_HEADERS {
        return ApiError::invalid(format!("the headers are larger than {MAX_HEADERS} bytes")).into_response();
    }
    if uri_length(request.uri()) > MAX_URI {
        return ApiError::invalid(format!("path and query are longer than {MAX_URI} bytes")).into_response();
    }
    next.run(request).await
}

fn uri_length(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |text| text.as_str().len())
}
