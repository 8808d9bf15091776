use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use larkauth_telemetry::{Health, Metrics};

/// `/healthz` (the process answers), for every listener.
pub(crate) fn liveness() -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" }))
}

/// [`liveness`], `/readyz` (it can take requests), `/health` (the state of each part), `/metrics`
/// (OpenMetrics or Prometheus text).
pub(crate) fn admin_routes(health: Health, metrics: Metrics) -> Router {
    let reported = health.clone();
    liveness()
        .route("/health", get(move || async move { Json(reported.report()) }))
        .route("/readyz", get(move || async move { ready(&health) }))
        .route("/metrics", get(move |headers: HeaderMap| async move { render(&metrics, &headers) }))
}

fn ready(health: &Health) -> Response {
    let readiness = health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// Answers in the OpenMetrics format, which has exemplars, when the caller accepts it, as Prometheus does.
fn render(metrics: &Metrics, headers: &HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (content_type, text) = match accepted.contains("application/openmetrics-text") {
        true => ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.render_open_metrics()),
        false => ("text/plain; version=0.0.4; charset=utf-8", metrics.render()),
    };
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
