//! The limits of a router: size and time of a body, time of an answer, requests at once. Each is a tower layer.

use std::{sync::Arc, time::Duration};

use axum::{
    BoxError,
    body::{Body, to_bytes},
    error_handling::HandleErrorLayer,
    extract::Request,
    http::header,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use larkauth_contracts::problem::ProblemCode;
use tokio::time::timeout;
use tower::{
    ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer, timeout::TimeoutLayer,
};
use utoipa_axum::router::OpenApiRouter;

use crate::{problem::ApiError, state::AppState};

/// Time for the whole body to arrive: 10 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the requests of one router may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Longest body, in bytes.
    pub(crate) body: usize,
    /// Time for the answer, counted from the last byte of the body.
    pub(crate) timeout: Duration,
    /// Most requests that are served at once. A request whose body is still arriving is not counted.
    pub(crate) in_flight: usize,
}

impl Limits {
    /// Puts the layers on all routes of `router`. The routes share one number of requests.
    pub(crate) fn layer(self, router: OpenApiRouter<Arc<AppState>>) -> OpenApiRouter<Arc<AppState>> {
        let in_flight = ServiceBuilder::new()
            .layer(HandleErrorLayer::new(move |error| async move { self.exceeded(&error) }))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(self.in_flight))
            .layer(TimeoutLayer::new(self.timeout));
        router.layer(in_flight).layer(from_fn(move |request, next| self.with_body(request, next)))
    }

    /// Reads the body first, so that a slow client holds no place among the requests in flight.
    async fn with_body(self, request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        let declared =
            parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: u64| length > self.body as u64) {
            return self.too_large().into_response();
        }
        match timeout(BODY_TIMEOUT, to_bytes(body, self.body)).await {
            Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
            Ok(Err(error)) if is_length_limit(&error) => self.too_large().into_response(),
            Ok(Err(_)) => ApiError::invalid("the body broke off").into_response(),
            Err(_) => {
                let detail = format!("The body did not arrive within {} s", BODY_TIMEOUT.as_secs());
                ApiError::new(ProblemCode::RequestTimeout, detail).into_response()
            }
        }
    }

    fn too_large(self) -> ApiError {
        ApiError::new(
            ProblemCode::PayloadTooLarge,
            format!("The body is longer than the {} KiB that this path takes", self.body >> 10),
        )
    }

    fn exceeded(self, error: &BoxError) -> ApiError {
        if error.is::<tower::timeout::error::Elapsed>() {
            let detail = format!("no answer within {} s; try again", self.timeout.as_secs());
            ApiError::new(ProblemCode::Timeout, detail).retry_after(Duration::from_secs(1))
        } else if error.is::<tower::load_shed::error::Overloaded>() {
            ApiError::unavailable("Too many requests are being served; try again later")
        } else {
            ApiError::internal(error)
        }
    }
}

/// Whether a body was cut because of its length, and not because its connection broke.
fn is_length_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}
