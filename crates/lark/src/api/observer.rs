use std::time::Duration;

use larkauth_models::AppId;

/// Observes every HTTP call. Each attempt of a repeated call is reported separately.
pub trait CallObserver: Send + Sync + 'static {
    /// Is called when a call ended. `outcome_label` is `ok` or a [`LarkError::label`](crate::LarkError::label).
    fn called(&self, app_id: &AppId, api: &'static str, outcome_label: &str, took: Duration);

    /// Adds headers to the request, such as `traceparent`. Runs inside the call's span.
    fn inject_headers(&self, _headers: &mut http::HeaderMap) {}
}

/// Ignores every call.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl CallObserver for NoObserver {
    fn called(&self, _: &AppId, _: &'static str, _: &str, _: Duration) {}
}
