//! What every request of every router passes through: its id, its span, the size of its head, the headers of its answer.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use larkauth_auth::Context;
use larkauth_telemetry::propagation;
use tokio::time::Instant;
use tracing::{Instrument, Span, field::Empty};

use crate::{
    location::make_location_relative,
    problem::{ApiError, ProblemReporter},
};

/// Most bytes of all header names and values.
const MAX_HEADERS: usize = 16 << 10;
/// Most bytes of path and query.
const MAX_URI: usize = 8 << 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The id of a request, for handlers.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// What the observation of a listener's requests needs.
pub(crate) struct Observer {
    pub(crate) context: Context,
    pub(crate) reporter: ProblemReporter,
}

/// Gives the request its id and its span; completes, logs and counts the answer. Outermost.
pub(crate) async fn observe(
    State(observer): State<Arc<Observer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let observed = Observed {
        started: Instant::now(),
        request_id: request_id(request.headers(), &observer.context),
        route: Cow::Owned(route(&request).to_owned()),
        method: request.method().clone(),
    };
    request.extensions_mut().insert(RequestId(observed.request_id.clone()));
    let span = observed.span(request.headers());
    async {
        let response = served(request, next).await;
        observer.complete(&observed, response)
    }
    .instrument(span)
    .await
}

/// A request that is being answered.
pub(crate) struct Observed {
    pub(crate) started: Instant,
    pub(crate) request_id: String,
    /// The pattern of the path, never the path itself.
    pub(crate) route: Cow<'static, str>,
    pub(crate) method: Method,
}

impl Observed {
    /// Returns the span of the request. It has neither the query nor a header: both carry secrets.
    pub(crate) fn span(&self, headers: &HeaderMap) -> Span {
        let Self { request_id, method, .. } = self;
        let span = tracing::info_span!(
            "gateway.http.request",
            %method, route = &*self.route, request_id, app_id = Empty, session_id = Empty, status = Empty,
        );
        propagation::set_parent_from_headers(&span, headers);
        span
    }
}

impl Observer {
    /// Completes the answer to a request, in its span; logs and counts it.
    pub(crate) fn complete(&self, observed: &Observed, response: Response) -> Response {
        let mut response = self.reporter.finish(response, &observed.request_id);
        let headers = response.headers_mut();
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
        headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(NO_SNIFF);
        if let Ok(value) = HeaderValue::from_str(&observed.request_id) {
            headers.insert(REQUEST_ID, value);
        }
        let (status, took) = (response.status(), observed.started.elapsed());
        Span::current().record("status", status.as_u16());
        self.context.metrics().http_request(&observed.route, &observed.method, status, took);
        tracing::debug!(status = status.as_u16(), took_ms = took.as_millis(), "gateway.http.served");
        response
    }
}

/// Returns the pattern that matched, never the path itself.
fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str)
}

/// Returns the caller's id if it is harmless, else a new one.
pub(crate) fn request_id(headers: &HeaderMap, context: &Context) -> String {
    let harmless = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(harmless);
    given.map_or_else(|| context.new_uuid().to_string(), str::to_owned)
}

/// Answers a request unless its head is too large.
async fn served(request: Request, next: Next) -> Response {
    if let Some(refusal) = refusal_of_head(request.uri(), request.headers()) {
        return refusal.into_response();
    }
    let uri = request.uri().clone();
    let mut response = next.run(request).await;
    make_location_relative(uri.path(), response.headers_mut());
    response
}

pub(crate) fn refusal_of_head(uri: &Uri, headers: &HeaderMap) -> Option<ApiError> {
    let headers: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > MAX_HEADERS {
        return Some(ApiError::invalid(format!("the headers are larger than {MAX_HEADERS} bytes")));
    }
    (uri_length(uri) > MAX_URI)
        .then(|| ApiError::invalid(format!("path and query are longer than {MAX_URI} bytes")))
}

fn uri_length(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |text| text.as_str().len())
}
