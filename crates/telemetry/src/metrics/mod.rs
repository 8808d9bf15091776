//! Prometheus metrics of the product (prefix `lark_service_`), updated by typed methods.
//!
//! Labels are bounded: applications, queues and routes come from configuration and code, never from a person; outcomes
//! and reasons are `&'static str`. There is no label for a user.

mod exemplars;
mod families;

use std::{sync::Arc, time::Duration};

use prometheus::{Registry, TextEncoder, proto::MetricFamily};

use self::{exemplars::Exemplars, families::Families};
use crate::error::TelemetryError;

/// All metrics of one process. A clone shares the metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    exemplars: Arc<Exemplars>,
}

impl Metrics {
    /// Registers all metrics, on Linux with those of the process (memory, CPU, file descriptors).
    ///
    /// # Errors
    /// Fails when two metrics have the same name.
    pub fn new() -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let families = Arc::new(Families::register(&registry)?);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        families.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // A counter that is 0 is there: an alert needs the step to 1.
        families.audit_dropped_total.with_label_values(&[] as &[&str]);
        Ok(Self { registry, families, exemplars: Arc::default() })
    }

    /// Returns the metrics as the registry has them.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Returns the metrics in the Prometheus text format (`text/plain; version=0.0.4`).
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be rendered");
            String::new()
        })
    }

    /// Returns the metrics in the OpenMetrics format (`application/openmetrics-text; version=1.0.0`): the histograms of
    /// callbacks, of handled messages and of calls to Lark have the id of a trace beside their buckets.
    #[must_use]
    pub fn render_open_metrics(&self) -> String {
        self.exemplars.open_metrics(&self.render())
    }

    /// Sets whether the long connection of an application is up.
    pub fn websocket_connected(&self, app_id: &str, connected: bool) {
        self.families.websocket_connection_status.with_label_values(&[app_id]).set(connected.into());
    }

    /// Sets whether HTTP callbacks replace the long connection of an application.
    pub fn websocket_fallback(&self, app_id: &str, active: bool) {
        self.families.websocket_fallback_active.with_label_values(&[app_id]).set(active.into());
    }

    /// Counts an attempt to reconnect.
    pub fn websocket_reconnected(&self, app_id: &str, outcome: &'static str) {
        self.families.websocket_reconnect_total.with_label_values(&[app_id, outcome]).inc();
    }

    /// Records the answer to a callback of Lark.
    pub fn callback_answered(&self, app_id: &str, outcome: &'static str, took: Duration) {
        self.families
            .callback_answer_seconds
            .with_label_values(&[app_id, outcome])
            .observe(took.as_secs_f64());
        let labels = [("app_id", app_id), ("outcome", outcome)];
        self.exemplars.note("callback_answer_seconds", &labels, took.as_secs_f64());
    }

    /// Counts an event or a callback that is not larkauth's. `event_type` is one of a fixed list.
    pub fn foreign_event(&self, app_id: &str, event_type: &'static str) {
        self.families.foreign_events_total.with_label_values(&[app_id, event_type]).inc();
    }

    /// Counts an event or a callback that was passed on, or was not.
    pub fn event_relayed(&self, app_id: &str, destination: &'static str, outcome: &'static str) {
        self.families.event_relay_total.with_label_values(&[app_id, destination, outcome]).inc();
    }

    /// Counts a click on a larkauth card whose session the database does not have.
    pub fn unknown_session_clicked(&self, app_id: &str) {
        self.families.unknown_session_clicks_total.with_label_values(&[app_id]).inc();
    }

    /// Counts a created session.
    pub fn session_created(&self, app_id: &str, auth_method: &'static str) {
        self.families.auth_session_total.with_label_values(&[app_id, auth_method]).inc();
    }

    /// Sets the number of pending sessions of an application.
    pub fn sessions_active(&self, app_id: &str, count: i64) {
        self.families.auth_session_active.with_label_values(&[app_id]).set(count);
    }

    /// Counts expired sessions.
    pub fn sessions_expired(&self, app_id: &str, count: u64) {
        self.families.auth_session_expired_total.with_label_values(&[app_id]).inc_by(count);
    }

    /// Records a completed authorization and the time since the creation of the session.
    pub fn auth_succeeded(&self, app_id: &str, auth_method: &'static str, took: Duration) {
        self.families.auth_success_total.with_label_values(&[app_id, auth_method]).inc();
        self.families
            .auth_duration_seconds
            .with_label_values(&[app_id, auth_method])
            .observe(took.as_secs_f64());
    }

    /// Counts an authorization that ended without a token.
    pub fn auth_failed(&self, app_id: &str, auth_method: &'static str, reason: &'static str) {
        self.families.auth_failure_total.with_label_values(&[app_id, auth_method, reason]).inc();
    }

    /// Counts a token refresh.
    pub fn token_refreshed(&self, app_id: &str, outcome: &'static str) {
        self.families.token_refresh_total.with_label_values(&[app_id, outcome]).inc();
    }

    /// Records the delay of a scheduled refresh.
    pub fn token_refresh_lag(&self, app_id: &str, lag: Duration) {
        self.families.token_refresh_lag_seconds.with_label_values(&[app_id]).observe(lag.as_secs_f64());
    }

    /// Sets the number of tokens of an application that can be served.
    pub fn tokens_active(&self, app_id: &str, count: i64) {
        self.families.token_active_count.with_label_values(&[app_id]).set(count);
    }

    /// Sets the number of tokens of an application whose last refresh has an unknown outcome.
    pub fn tokens_outcome_unknown(&self, app_id: &str, count: i64) {
        self.families.token_outcome_unknown_count.with_label_values(&[app_id]).set(count);
    }

    /// Sets the number of suspended tokens of an application.
    pub fn tokens_suspended(&self, app_id: &str, count: i64) {
        self.families.token_suspended_count.with_label_values(&[app_id]).set(count);
    }

    /// Sets for how long the oldest scheduled refresh of an application has been due.
    pub fn token_refresh_overdue(&self, app_id: &str, overdue: Duration) {
        let seconds = i64::try_from(overdue.as_secs()).unwrap_or(i64::MAX);
        self.families.token_refresh_overdue_seconds.with_label_values(&[app_id]).set(seconds);
    }

    /// Sets the number of people of an application whose consent ends within this time.
    pub fn consents_ending(&self, app_id: &str, within: &'static str, count: i64) {
        self.families.token_consent_ending_count.with_label_values(&[app_id, within]).set(count);
    }

    /// Sets whether the breaker of an application is open.
    pub fn breaker_open(&self, app_id: &str, open: bool) {
        self.families.app_breaker_open.with_label_values(&[app_id]).set(open.into());
    }

    /// Counts a person who was to be asked again.
    pub fn reauthorization(&self, app_id: &str, outcome: &'static str) {
        self.families.reauthorization_total.with_label_values(&[app_id, outcome]).inc();
    }

    /// Counts a suspended person.
    pub fn user_suspended(&self, app_id: &str, reason: &'static str) {
        self.families.user_suspended_total.with_label_values(&[app_id, reason]).inc();
    }

    /// Counts a restored person.
    pub fn user_restored(&self, app_id: &str) {
        self.families.user_restored_total.with_label_values(&[app_id]).inc();
    }

    /// Counts people who were looked up.
    pub fn user_synced(&self, app_id: &str, outcome: &'static str, count: u64) {
        self.families.user_sync_total.with_label_values(&[app_id, outcome]).inc_by(count);
    }

    /// Counts the end of a pass over all people.
    pub fn user_sync_ended(&self, app_id: &str, outcome: &'static str) {
        self.families.user_sync_pass_total.with_label_values(&[app_id, outcome]).inc();
    }

    /// Sets the number of people whom the current pass has not looked up yet.
    pub fn user_sync_left(&self, app_id: &str, count: i64) {
        self.families.user_sync_left.with_label_values(&[app_id]).set(count);
    }

    /// Counts a scheduled refresh that came after the end of what it keeps.
    pub fn token_refresh_late(&self, app_id: &str, what: &'static str) {
        self.families.token_refresh_late_total.with_label_values(&[app_id, what]).inc();
    }

    /// Sets the number of new token pairs that are spooled outside the database.
    pub fn token_spool(&self, entries: i64) {
        self.families.token_spool_entries.set(entries);
    }

    /// Sets the number of encryption keys that stored values may need and this process does not have.
    pub fn encryption_keys_missing(&self, count: i64) {
        self.families.encryption_keys_missing.set(count);
    }

    /// Records a publish and the time until its outcome.
    pub fn bus_published(&self, outcome: &'static str, took: Duration) {
        self.families.bus_publish_total.with_label_values(&[outcome]).inc();
        self.families.bus_publish_seconds.observe(took.as_secs_f64());
    }

    /// Records a handled message.
    pub fn bus_consumed(&self, queue: &str, outcome: &'static str, took: Duration) {
        self.families.bus_consumed_total.with_label_values(&[queue, outcome]).inc();
        self.families.bus_handle_seconds.with_label_values(&[queue]).observe(took.as_secs_f64());
        self.exemplars.note("bus_handle_seconds", &[("queue", queue)], took.as_secs_f64());
    }

    /// Records the time from the publish of a message to the start of its handling.
    pub fn bus_lag(&self, queue: &str, lag: Duration) {
        self.families.bus_lag_seconds.with_label_values(&[queue]).observe(lag.as_secs_f64());
    }

    /// Counts a message that was scheduled for a retry.
    pub fn bus_retried(&self, queue: &str) {
        self.families.bus_retries_total.with_label_values(&[queue]).inc();
    }

    /// Counts a message that became a dead letter.
    pub fn bus_dead_lettered(&self, queue: &str, reason: &'static str) {
        self.families.bus_dead_letters_total.with_label_values(&[queue, reason]).inc();
    }

    /// Sets the number of messages in a queue.
    pub fn bus_queue_messages(&self, queue: &str, count: i64) {
        self.families.bus_queue_messages.with_label_values(&[queue]).set(count);
    }

    /// Sets the number of consumers of a queue.
    pub fn bus_queue_consumers(&self, queue: &str, count: i64) {
        self.families.bus_queue_consumers.with_label_values(&[queue]).set(count);
    }

    /// Counts a message that was moved to be handled alone.
    pub fn bus_isolated(&self, queue: &str) {
        self.families.bus_isolated_total.with_label_values(&[queue]).inc();
    }

    /// Sets whether the broker takes no messages although it is connected.
    pub fn bus_blocked(&self, blocked: bool) {
        self.families.bus_blocked.set(blocked.into());
    }

    /// Sets whether the broker is connected.
    pub fn bus_up(&self, up: bool) {
        self.families.bus_up.set(up.into());
    }

    /// Records a call of the Lark API. `api` is the name of the call in the code; `outcome` is `ok`, `code_<number>` or a kind of
    /// failure (the platform's codes are a finite list).
    pub fn lark_api_called(&self, app_id: &str, api: &'static str, outcome: &str, took: Duration) {
        self.families.lark_api_calls_total.with_label_values(&[app_id, api, outcome]).inc();
        self.families.lark_api_seconds.with_label_values(&[api]).observe(took.as_secs_f64());
        self.exemplars.note("lark_api_seconds", &[("api", api)], took.as_secs_f64());
    }

    /// Counts calls that were asked of the rate limit of an application and class of endpoint.
    pub fn lark_api_budget(
        &self,
        app_id: &str,
        class: &'static str,
        lane: &'static str,
        outcome: &'static str,
        calls: u32,
    ) {
        self.families
            .lark_api_budget_total
            .with_label_values(&[app_id, class, lane, outcome])
            .inc_by(calls.into());
    }

    /// Records a served HTTP request. `route` is the matched pattern (`/v1/auth/sessions/{id}`), or a constant when none
    /// matched; never the path.
    pub fn http_request(&self, route: &str, method: &http::Method, status: http::StatusCode, took: Duration) {
        let method = known_method(method);
        self.families.http_requests_total.with_label_values(&[route, method, status.as_str()]).inc();
        self.families.http_request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Counts audit records that did not reach the database.
    pub fn audit_records_dropped(&self, count: u64) {
        self.families.audit_dropped_total.with_label_values(&[] as &[&str]).inc_by(count);
    }

    /// Sets whether the changes of the database are followed.
    pub fn changes_followed(&self, followed: bool) {
        self.families.changes_followed.set(followed.into());
    }

    /// Sets whether the database answers.
    pub fn database_up(&self, up: bool) {
        self.families.database_up.set(up.into());
    }

    /// Sets whether the database takes writes.
    pub fn database_writable(&self, writable: bool) {
        self.families.database_writable.set(writable.into());
    }

    /// Sets the size of the database.
    pub fn database_size(&self, bytes: u64) {
        self.families.database_size_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Sets the numbers of this process's connections to the database.
    pub fn database_pool(&self, used: u32, idle: u32, limit: u32) {
        let connections = &self.families.database_pool_connections;
        connections.with_label_values(&["used"]).set(used.into());
        connections.with_label_values(&["idle"]).set(idle.into());
        self.families.database_pool_limit.set(limit.into());
    }

    /// Removes the gauges of an application that is no longer served, so that no alarm depends on their last value.
    pub fn forget_app(&self, app_id: &str) {
        let f = &self.families;
        for gauge in [
            &f.websocket_connection_status,
            &f.websocket_fallback_active,
            &f.auth_session_active,
            &f.token_active_count,
            &f.token_outcome_unknown_count,
            &f.token_refresh_overdue_seconds,
            &f.app_breaker_open,
            &f.token_suspended_count,
            &f.user_sync_left,
        ] {
            // A missing gauge needs no removal.
            let _ = gauge.remove_label_values(&[app_id]);
        }
    }
}

/// Returns the method as a label. A caller can invent methods, which would make the labels unbounded.
fn known_method(method: &http::Method) -> &'static str {
    use http::Method;
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
