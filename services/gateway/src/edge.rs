//! What every request passes through: its id, its span, its limits, and one form for all errors.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Uri, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use larkauth_auth::Context;
use larkauth_contracts::problem::ProblemCode;
use larkauth_telemetry::propagation;
use tokio::time::{Instant, timeout};
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use tracing::{Instrument, field::Empty};
use utoipa_axum::router::OpenApiRouter;

use crate::{api, callbacks, docs, gateway::Gateway, problem::ApiError, redirect};

/// Requests served at once; more are turned away.
pub(crate) const IN_FLIGHT: usize = 1024;
/// Longest body, in bytes.
const MAX_BODY: usize = 64 << 10;
/// Most bytes of all header names and values, and of path and query.
const MAX_HEADERS: usize = 16 << 10;
const MAX_URI: usize = 8 << 10;
/// For a request that waits for nothing.
const DEADLINE: Duration = Duration::from_secs(10);
/// For one that may: a long poll, and the store's own deadlines on top.
const LONG_POLL_DEADLINE: Duration = Duration::from_secs(75);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All routes, but for those every service has.
pub(crate) fn routes(gateway: Arc<Gateway>) -> Router {
    let (documented, openapi) = documented_routes().split_for_parts();
    guarded(documented.merge(docs::routes(openapi)), gateway)
}

/// What all requests to these routes pass through.
pub(crate) fn guarded(routes: Router<Arc<Gateway>>, gateway: Arc<Gateway>) -> Router {
    let header = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    routes
        .fallback(nothing_here)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(deadline))
        .layer(from_fn_with_state(gateway.clone(), limits))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(from_fn_with_state(gateway.clone(), observe))
        .with_state(gateway)
}

/// The routes that the OpenAPI document describes.
pub(crate) fn documented_routes() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::with_openapi(docs::about())
        .merge(api::routes())
        .merge(redirect::routes())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .merge(callbacks::routes())
}

/// Outermost: gives the request its id and its span, completes and counts the answer.
async fn observe(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request_id(&request, &gateway.context);
    let route = route(&request).to_owned();
    let method = request.method().clone();
    // Neither the query nor a header: both carry secrets.
    let span = tracing::info_span!(
        "gateway.http.request",
        method = %method, route, request_id, app_id = Empty, session_id = Empty, status = Empty,
    );
    propagation::set_parent_from_headers(&span, request.headers());
    async {
        let mut response = gateway.reporter.finish(next.run(request).await, &request_id);
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let took = started.elapsed();
        tracing::Span::current().record("status", response.status().as_u16());
        gateway.context.metrics().http_request(&route, &method, response.status(), took);
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

/// The pattern that matched, never the path itself.
fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str)
}

/// The caller's id if it is harmless, else a new one.
fn request_id(request: &Request, context: &Context) -> String {
    let harmless = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(harmless);
    given.map_or_else(|| context.new_uuid().to_string(), str::to_owned)
}

async fn limits(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > MAX_HEADERS {
        return ApiError::invalid(format!("the headers are larger than {MAX_HEADERS} bytes")).into_response();
    }
    if uri_length(request.uri()) > MAX_URI {
        return ApiError::invalid(format!("path and query are longer than {MAX_URI} bytes")).into_response();
    }
    match gateway.in_flight.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => {
            ApiError::unavailable("Too many requests are being served; try again later").into_response()
        }
    }
}

fn uri_length(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |text| text.as_str().len())
}

async fn deadline(request: Request, next: Next) -> Response {
    let limit = if route(&request) == api::LONG_POLL_ROUTE { LONG_POLL_DEADLINE } else { DEADLINE };
    match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            ApiError::new(ProblemCode::Timeout, format!("no answer within {} s; try again", limit.as_secs()))
                .retry_after(Duration::from_secs(1))
                .into_response()
        }
    }
}

async fn nothing_here() -> ApiError {
    ApiError::new(ProblemCode::NotFound, "Nothing is served at this path; /docs lists what there is")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ProblemCode::MethodNotAllowed, "The Allow header lists the methods that are served here")
}

/// The panic itself was logged by the process's panic hook, with its place.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::internal("the handler panicked").into_response()
}
