//! All routes of the gateway with the limits of each router, and one form for all errors.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use larkauth_contracts::problem::ProblemCode;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    api, docs, http_callbacks,
    limits::Limits,
    middleware::{limit_head, observe},
    problem::ApiError,
    redirect,
    state::{AppState, LONG_POLLS},
};

/// Requests of the API that wait for nothing.
const API: Limits = Limits { body: 64 << 10, timeout: Duration::from_secs(10), in_flight: 512 };
/// Requests that may wait for the end of a session: 60 s, and the store's own deadlines on top. As many again may ask
/// without waiting.
const LONG_POLL: Limits =
    Limits { body: 64 << 10, timeout: Duration::from_secs(75), in_flight: 2 * LONG_POLLS };
const _: () = assert!(LONG_POLL.timeout.as_secs() > api::MAX_WAIT as u64);
/// Browsers that come back from the consent page.
const REDIRECT: Limits = Limits { body: 64 << 10, timeout: Duration::from_secs(10), in_flight: 512 };
/// Lark's callbacks.
const CALLBACKS: Limits = Limits { body: 1 << 20, timeout: Duration::from_secs(10), in_flight: 512 };
/// The pages about the API.
const DOCS: Limits = Limits { body: 64 << 10, timeout: Duration::from_secs(10), in_flight: 128 };

/// All routes, but for those every service has.
pub(crate) fn routes(state: Arc<AppState>) -> Router {
    let (documented, openapi) = documented_routes().split_for_parts();
    let docs = DOCS.layer(OpenApiRouter::from(docs::routes(openapi)));
    with_middleware(documented.merge(Router::from(docs)), state)
}

/// The OpenAPI 3.1 document of the gateway, also served at `/docs/openapi.json`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented_routes().into_openapi()
}

/// The routes that the OpenAPI document describes.
fn documented_routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::with_openapi(docs::about())
        .merge(API.layer(api::routes()))
        .merge(LONG_POLL.layer(api::long_poll_routes()))
        .merge(REDIRECT.layer(redirect::routes()))
        .merge(CALLBACKS.layer(http_callbacks::routes()))
}

/// Puts around `routes` what every request passes through.
pub(crate) fn with_middleware(routes: Router<Arc<AppState>>, state: Arc<AppState>) -> Router {
    let header = |name, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(limit_head))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(from_fn_with_state(state.clone(), observe))
        .with_state(state)
}

async fn not_found() -> ApiError {
    ApiError::new(ProblemCode::NotFound, "Nothing is served at this path; /docs lists what there is")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ProblemCode::MethodNotAllowed, "The Allow header lists the methods that are served here")
}

/// The process's panic hook has logged the panic with its place.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::internal("the handler panicked").into_response()
}
