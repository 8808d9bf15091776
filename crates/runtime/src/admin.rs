use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use larkauth_telemetry::{Health, Metrics};

/// `/healthz` (the process answers), for every listener.
pub(crate) fn liveness() -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" }))
}

/// [`liveness`], `/readyz` (it can take requests), `/health` (the state of each part), `/metrics`
/// (Prometheus text).
pub(crate) fn admin_routes(health: Health, metrics: Metrics) -> Router {
    let reported = health.clone();
    liveness()
        .route("/health", get(move || async move { Json(reported.report()) }))
        .route("/readyz", get(move || async move { ready(&health) }))
        .route("/metrics", get(move || async move { render(&metrics) }))
}

fn ready(health: &Health) -> Response {
    let readiness = health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

fn render(metrics: &Metrics) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}
