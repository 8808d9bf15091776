//! The limits of a router: size and time of a body, time of an answer, requests at once. Each is a tower layer.

use std::{sync::Arc, time::Duration};

use axum::{
    BoxError,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use larkauth_contracts::problem::ProblemCode;
use tokio::time::timeout;
use tower::{
    ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer, timeout::TimeoutLayer,
};
use utoipa_axum::router::OpenApiRouter;

use crate::{problem::ApiError, state::AppState};

/// Time for the whole body to arrive: 10 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes that are read beyond the limit of a body: 1 MiB.
const MAX_DISCARDED: usize = 1 << 20;

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
        let layer = ServiceBuilder::new()
            .layer(from_fn(move |request, next| self.with_body(request, next)))
            .layer(HandleErrorLayer::new(move |error| async move { self.exceeded(&error) }))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(self.in_flight))
            .layer(TimeoutLayer::new(self.timeout));
        router.layer(layer)
    }

    /// Reads the body first, so that a slow client holds no place among the requests in flight.
    async fn with_body(self, request: Request, next: Next) -> Response {
        if request.body().is_end_stream() {
            return next.run(request).await;
        }
        let (parts, body) = request.into_parts();
        match timeout(BODY_TIMEOUT, self.read(body)).await {
            Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
            Ok(Err(error)) => error.into_response(),
            Err(_) => {
                let detail = format!("The body did not arrive within {} s", BODY_TIMEOUT.as_secs());
                ApiError::new(ProblemCode::RequestTimeout, detail).into_response()
            }
        }
    }

    /// Reads a body. Discards what is beyond the limit, because a client that is still sending gets no answer from a
    /// closed connection.
    async fn read(self, mut body: Body) -> Result<Bytes, ApiError> {
        let (mut kept, mut size) = (BytesMut::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::invalid("the body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            size += data.len();
            if size > self.body {
                kept.clear();
            } else {
                kept.extend_from_slice(&data);
            }
            if size > self.body + MAX_DISCARDED {
                break;
            }
        }
        if size > self.body { Err(self.too_large()) } else { Ok(kept.freeze()) }
    }

    fn too_large(self) -> ApiError {
        ApiError::new(
            ProblemCode::PayloadTooLarge,
            format!("The body is longer than the {} KiB that this path takes", self.body >> 10),
        )
    }

    /// The refusal of a request whose answer took too long.
    pub(crate) fn late(self) -> ApiError {
        let detail = format!("no answer within {} s; try again", self.timeout.as_secs());
        ApiError::new(ProblemCode::Timeout, detail).retry_after(Duration::from_secs(1))
    }

    fn exceeded(self, error: &BoxError) -> ApiError {
        if error.is::<tower::timeout::error::Elapsed>() {
            self.late()
        } else if error.is::<tower::load_shed::error::Overloaded>() {
            ApiError::unavailable("Too many requests are being served; try again later")
        } else {
            ApiError::internal(error)
        }
    }
}
