//! All routes of the gateway with the limits of each router, and one form for all errors.

use std::{sync::Arc, time::Duration};

use axum::{Router, middleware::from_fn_with_state, response::IntoResponse};
use larkauth_contracts::problem::ProblemCode;
use larkauth_runtime::Routes;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    api, console, docs, http_callbacks,
    limits::Limits,
    middleware::{Observer, observe},
    problem::{ApiError, Audience, ProblemReporter},
    redirect,
    state::{AppState, LONG_POLLS},
    token_reads::TokenReads,
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
/// The operator console. A page asks several parts, each with a deadline of its own.
const CONSOLE: Limits = Limits { body: 64 << 10, timeout: Duration::from_secs(15), in_flight: 64 };
/// The pages about the API.
const DOCS: Limits = Limits { body: 64 << 10, timeout: Duration::from_secs(10), in_flight: 128 };

/// All routes, but for those every service has. With a listener for it, what browsers and Lark reach is served there only.
pub(crate) fn routes(state: &Arc<AppState>, has_public_listener: bool) -> Routes {
    if has_public_listener {
        let (public, private) = separate_routers(state);
        Routes::on_two_listeners(public, private)
    } else {
        Routes::on_one_listener(common_router(state))
    }
}

/// What answers most reads of tokens before the router does.
pub(crate) fn shortcut(state: &Arc<AppState>) -> Arc<TokenReads> {
    Arc::new(TokenReads::new(state.clone(), observer(state, Audience::Callers), API))
}

fn observer(state: &AppState, audience: Audience) -> Observer {
    Observer { context: state.context.clone(), reporter: ProblemReporter::new(audience) }
}

/// Everything, for one listener.
pub(crate) fn common_router(state: &Arc<AppState>) -> Router {
    let routes = with_pages(private_routes(), state).merge(Router::from(public_routes()));
    with_middleware(routes, state, Audience::Callers)
}

/// What is public and what is private, for two listeners.
pub(crate) fn separate_routers(state: &Arc<AppState>) -> (Router, Router) {
    let public = with_middleware(public_routes().into(), state, Audience::Everyone);
    (public, with_middleware(with_pages(private_routes(), state), state, Audience::Callers))
}

/// Adds the pages for people who operate or call, which the OpenAPI document does not hold.
fn with_pages(routes: OpenApiRouter<Arc<AppState>>, state: &Arc<AppState>) -> Router<Arc<AppState>> {
    let docs = DOCS.layer(OpenApiRouter::from(docs::routes(docs::served(openapi()))));
    let console = CONSOLE.layer(OpenApiRouter::from(console::routes(state)));
    Router::from(routes).merge(Router::from(docs)).merge(Router::from(console))
}

/// The OpenAPI 3.1 document of the gateway, also served at `/docs/openapi.json`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let routes = OpenApiRouter::with_openapi(docs::about()).merge(private_routes()).merge(public_routes());
    routes.into_openapi()
}

/// The documented routes for callers with an API key.
fn private_routes() -> OpenApiRouter<Arc<AppState>> {
    API.layer(api::routes()).merge(LONG_POLL.layer(api::long_poll_routes()))
}

/// The documented routes for browsers and Lark.
fn public_routes() -> OpenApiRouter<Arc<AppState>> {
    REDIRECT.layer(redirect::routes()).merge(CALLBACKS.layer(http_callbacks::routes()))
}

/// Puts around `routes` what every request passes through.
pub(crate) fn with_middleware(
    routes: Router<Arc<AppState>>,
    state: &Arc<AppState>,
    audience: Audience,
) -> Router {
    let routes = match audience {
        Audience::Callers => routes.fallback(not_found),
        Audience::Everyone => routes.fallback(not_found_in_public),
    };
    let observer = Arc::new(observer(state, audience));
    // One layer: the router allocates for each that it is given, on each request.
    let around = ServiceBuilder::new()
        .layer(from_fn_with_state(observer, observe))
        .layer(CatchPanicLayer::custom(|_| ApiError::panicked().into_response()));
    routes.method_not_allowed_fallback(method_not_allowed).layer(around).with_state(state.clone())
}

async fn not_found() -> ApiError {
    ApiError::new(ProblemCode::NotFound, "Nothing is served at this path; /docs lists what there is")
}

/// A stranger is not told where to look.
async fn not_found_in_public() -> ApiError {
    ApiError::new(ProblemCode::NotFound, "Nothing is served at this path")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(ProblemCode::MethodNotAllowed, "The Allow header lists the methods that are served here")
}
