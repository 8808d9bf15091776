//! Metric families: name, help, labels, buckets.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// Prefix of every name.
const NAMESPACE: &str = "lark_service";

/// Buckets in seconds for technical work; 2 s and 3 s are the deadlines of a card callback.
pub(super) const FAST: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];
/// Buckets in seconds for the answer of a person, up to the ten minutes of a session.
const HUMAN: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 450.0, 600.0];
/// Buckets in seconds for delays, up to one hour.
const LAG: &[f64] = &[0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

macro_rules! families {
    ($($name:ident: $kind:ident $labels:tt $(in $buckets:ident)?, $help:literal;)+) => {
        /// The registered families.
        #[derive(Debug)]
        pub(super) struct Families {
            $(#[doc = $help] pub(super) $name: $kind,)+
        }
        impl Families {
            /// Registers all families.
            pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
                Ok(Self { $($name: add(registry, families!(@make $kind, stringify!($name), $help, $labels $(, $buckets)?))?,)+ })
            }
        }
    };
    (@make Histogram, $name:expr, $help:literal, [], $buckets:ident) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).namespace(NAMESPACE).buckets($buckets.to_vec()))
    };
    (@make HistogramVec, $name:expr, $help:literal, $labels:tt, $buckets:ident) => {
        HistogramVec::new(HistogramOpts::new($name, $help).namespace(NAMESPACE).buckets($buckets.to_vec()), &$labels)
    };
    (@make IntGauge, $name:expr, $help:literal, []) => {
        IntGauge::with_opts(Opts::new($name, $help).namespace(NAMESPACE))
    };
    (@make $kind:ident, $name:expr, $help:literal, $labels:tt) => {
        $kind::new(Opts::new($name, $help).namespace(NAMESPACE), &$labels)
    };
}

families! {
    build_info: IntGaugeVec ["version"], "1, with the version of this build.";

    websocket_connection_status: IntGaugeVec ["app_id"], "1 while the long connection is up, else 0.";
    websocket_fallback_active: IntGaugeVec ["app_id"], "1 while HTTP callbacks replace the long connection, else 0.";
    websocket_reconnect_total: IntCounterVec ["app_id", "outcome"], "Attempts to reconnect, by outcome.";
    callback_answer_seconds: HistogramVec ["app_id", "outcome"] in FAST, "Seconds from the arrival of a callback to its answer; Lark waits 3.";
    foreign_events_total: IntCounterVec ["app_id", "event_type"], "Events and callbacks that are not larkauth's, by type; unknown types are `other`.";
    event_relay_total: IntCounterVec ["app_id", "destination", "outcome"], "Events and callbacks passed on to other programs, by outcome.";
    unknown_session_clicks_total: IntCounterVec ["app_id"], "Clicks on larkauth cards whose session the database does not have.";

    auth_session_total: IntCounterVec ["app_id", "auth_method"], "Sessions created.";
    auth_session_active: IntGaugeVec ["app_id"], "Sessions that are pending.";
    auth_session_expired_total: IntCounterVec ["app_id"], "Sessions that expired.";
    auth_success_total: IntCounterVec ["app_id", "auth_method"], "Authorizations completed.";
    auth_failure_total: IntCounterVec ["app_id", "auth_method", "reason"], "Authorizations that did not complete, by reason.";
    auth_duration_seconds: HistogramVec ["app_id", "auth_method"] in HUMAN, "Seconds from the creation of a session to the stored token.";

    token_refresh_total: IntCounterVec ["app_id", "outcome"], "Token refreshes, by outcome.";
    token_refresh_lag_seconds: HistogramVec ["app_id"] in LAG, "Seconds between the planned and the actual time of a refresh.";
    token_active_count: IntGaugeVec ["app_id"], "Tokens that can be served.";
    token_outcome_unknown_count: IntGaugeVec ["app_id"], "Tokens whose last refresh has an unknown outcome.";
    token_refresh_overdue_seconds: IntGaugeVec ["app_id"], "Seconds for which the oldest scheduled refresh has been due, 0 when none is.";
    token_consent_ending_count: IntGaugeVec ["app_id", "within"], "People whose consent reaches Lark's limit of 365 days within 3 or 14 days.";
    token_suspended_count: IntGaugeVec ["app_id"], "Tokens that are not served because Lark refuses their person.";
    token_refresh_late_total: IntCounterVec ["app_id", "what"], "Scheduled refreshes that came after the end of what they keep: access_token, or login.";
    token_spool_entries: IntGauge [], "New token pairs that are spooled outside the database.";

    reauthorization_total: IntCounterVec ["app_id", "outcome"], "People whose token has ended or ends soon, by what became of asking them again.";
    user_suspended_total: IntCounterVec ["app_id", "reason"], "People who were suspended, by reason.";
    user_restored_total: IntCounterVec ["app_id"], "Suspended people who were restored.";
    user_sync_total: IntCounterVec ["app_id", "outcome"], "People who were looked up at Lark, by outcome.";
    user_sync_pass_total: IntCounterVec ["app_id", "outcome"], "Passes over all people that ended, by outcome.";
    user_sync_left: IntGaugeVec ["app_id"], "People whom the current pass has not looked up yet.";

    bus_publish_total: IntCounterVec ["outcome"], "Messages published, by outcome.";
    bus_publish_seconds: Histogram [] in FAST, "Seconds from publishing to the confirm of the broker.";
    bus_consumed_total: IntCounterVec ["queue", "outcome"], "Messages handled, by disposition.";
    bus_handle_seconds: HistogramVec ["queue"] in FAST, "Seconds to handle one message.";
    bus_lag_seconds: HistogramVec ["queue"] in LAG, "Seconds between publishing and the start of handling.";
    bus_retries_total: IntCounterVec ["queue"], "Messages scheduled for a retry.";
    bus_dead_letters_total: IntCounterVec ["queue", "reason"], "Messages dead-lettered, by reason.";
    bus_queue_messages: IntGaugeVec ["queue"], "Messages waiting in the queue.";
    bus_queue_consumers: IntGaugeVec ["queue"], "Consumers of the queue, of all processes; the embedded bus has no such number.";
    bus_isolated_total: IntCounterVec ["queue"], "Messages moved to be handled alone, because they were delivered before.";
    bus_up: IntGauge [], "1 while the broker is connected, else 0.";
    bus_blocked: IntGauge [], "1 while the broker takes no messages because it is short of memory or disk, else 0.";

    app_breaker_open: IntGaugeVec ["app_id"], "1 while Lark refuses the application, else 0.";
    lark_api_calls_total: IntCounterVec ["app_id", "api", "outcome"], "Calls of the Lark API, by outcome.";
    lark_api_budget_total: IntCounterVec ["app_id", "class", "lane", "outcome"], "Calls asked of the rate limit of an application and class of endpoint, by lane and outcome; 1000 granted a minute are all of it.";
    lark_api_seconds: HistogramVec ["api"] in FAST, "Seconds of one call of the Lark API.";
    http_requests_total: IntCounterVec ["route", "method", "status"], "HTTP requests served.";
    http_request_seconds: HistogramVec ["route"] in FAST, "Seconds to serve one HTTP request.";
    audit_dropped_total: IntCounterVec [], "Audit records of reads and refusals that are in the log and not in the database.";
    encryption_keys_missing: IntGauge [], "Encryption keys that stored values may need and this process does not have.";
    changes_followed: IntGauge [], "1 while the database announces its changes to this process, else 0: tokens are kept in memory for a second at most.";
    database_up: IntGauge [], "1 while the database answers, else 0.";
    database_size_bytes: IntGauge [], "Size of the database.";
    database_pool_connections: IntGaugeVec ["state"], "Database connections of this process, used or idle.";
    database_pool_limit: IntGauge [], "Largest number of database connections of this process.";
    database_writable: IntGauge [], "1 while the database takes writes, else 0.";
}

fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
