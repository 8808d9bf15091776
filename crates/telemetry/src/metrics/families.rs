//! Every metric family: name, help, labels, buckets.

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// Put before every name.
const NAMESPACE: &str = "lark_service";

/// Work of milliseconds to seconds; 2 and 3 s are the budgets of a card callback.
const FAST: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];
/// A person reads and clicks: seconds to the ten minutes of an invitation.
const HUMAN: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 450.0, 600.0];
/// Being late: from nothing to an hour.
const LAG: &[f64] = &[0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

macro_rules! families {
    ($($name:ident: $kind:ident $labels:tt $(in $buckets:ident)?, $help:literal;)+) => {
        /// All families, registered.
        #[derive(Debug)]
        pub(super) struct Families {
            $(#[doc = $help] pub(super) $name: $kind,)+
        }
        impl Families {
            /// Registers all of them.
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
    websocket_connection_status: IntGaugeVec ["app_id"], "1 while the long connection is up, else 0.";
    websocket_fallback_active: IntGaugeVec ["app_id"], "1 while HTTP callbacks stand in for the long connection, else 0.";
    websocket_reconnect_total: IntCounterVec ["app_id", "outcome"], "Attempts to reconnect, by how they ended.";
    callback_answer_seconds: HistogramVec ["app_id", "outcome"] in FAST, "Seconds from a callback's arrival to its answer; Lark waits 3.";

    auth_session_total: IntCounterVec ["app_id", "auth_method"], "Invitations created.";
    auth_session_active: IntGaugeVec ["app_id"], "Invitations waiting for an answer now.";
    auth_session_expired_total: IntCounterVec ["app_id"], "Invitations that nobody answered in time.";
    auth_success_total: IntCounterVec ["app_id", "auth_method"], "Authorizations completed.";
    auth_failure_total: IntCounterVec ["app_id", "auth_method", "reason"], "Authorizations that did not complete, by reason.";
    auth_duration_seconds: HistogramVec ["app_id", "auth_method"] in HUMAN, "Seconds from invitation to stored token.";

    token_refresh_total: IntCounterVec ["app_id", "outcome"], "Token refreshes, by how they ended.";
    token_refresh_lag_seconds: HistogramVec ["app_id"] in LAG, "Seconds between a refresh's planned and real time.";
    token_active_count: IntGaugeVec ["app_id"], "Tokens that can be handed out now.";
    token_outcome_unknown_count: IntGaugeVec ["app_id"], "Tokens whose last refresh has no known outcome.";
    token_endpoint_budget_used_ratio: GaugeVec ["app_id"], "Used part of the token endpoint's rate limit, 0 to 1.";
    token_spool_entries: IntGauge [], "New token pairs that wait outside the database to be stored.";

    bus_publish_total: IntCounterVec ["outcome"], "Messages published, by the broker's answer.";
    bus_publish_seconds: Histogram [] in FAST, "Seconds from publishing to the broker's confirm.";
    bus_consumed_total: IntCounterVec ["queue", "outcome"], "Messages handled, by the handler's decision.";
    bus_handle_seconds: HistogramVec ["queue"] in FAST, "Seconds that handling one message took.";
    bus_lag_seconds: HistogramVec ["queue"] in LAG, "Seconds between publishing and the start of handling.";
    bus_retries_total: IntCounterVec ["queue"], "Messages put back for a later attempt.";
    bus_dead_letters_total: IntCounterVec ["queue", "reason"], "Messages given up, by reason.";
    bus_queue_messages: IntGaugeVec ["queue"], "Messages waiting in the queue.";
    bus_up: IntGauge [], "1 while the broker is connected, else 0.";

    lark_api_calls_total: IntCounterVec ["app_id", "api", "outcome"], "Calls of the Lark API, by outcome.";
    lark_api_seconds: HistogramVec ["api"] in FAST, "Seconds that one call of the Lark API took.";
    http_requests_total: IntCounterVec ["route", "method", "status"], "HTTP requests served.";
    http_request_seconds: HistogramVec ["route"] in FAST, "Seconds that serving one HTTP request took.";
    database_up: IntGauge [], "1 while the database answers, else 0.";
}

fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
