//! Log filters: which crate may log at which level.

use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, Targets, filter_fn},
    layer::Filter,
    registry::LookupSpan,
};

use crate::error::TelemetryError;

/// Filter without `RUST_LOG`.
const DEFAULT: &str = "info";

/// Crates that log whole requests, frames or statements below `warn`.
const PAYLOAD_LOGGERS: &[&str] = &[
    "amq",
    "async_",
    "axum",
    "h2",
    "hyper",
    "opentelemetry",
    "reqwest",
    "rustls",
    "sqlx",
    "tokio_tungstenite",
    "tower",
    "tungstenite",
];

/// Returns the hard cap. Crates of this product log at every level (the `Debug` of their secrets shows nothing), other crates
/// nothing below `info`, and the [`PAYLOAD_LOGGERS`] nothing below `warn`. The list has the trusted crates: an unknown
/// dependency is capped as well.
fn cap() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("larkauth", LevelFilter::TRACE)
        .with_targets(PAYLOAD_LOGGERS.iter().map(|target| (*target, LevelFilter::WARN)))
        // lapin logs every end of a connection as an error, a regular one too, and returned messages in full.
        // larkauth_messaging logs lost connections and messages with their reason.
        .with_target("lapin", LevelFilter::OFF)
}

/// Returns the filter of log lines: `RUST_LOG` and the cap.
///
/// Spans of `info` and above pass regardless of `RUST_LOG`, so that a warning has its `session_id`.
pub(crate) fn logs<S>(directives: Option<&str>) -> Result<Box<dyn Filter<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let chosen = EnvFilter::builder()
        .with_regex(false)
        .parse(directives.unwrap_or(DEFAULT))
        .map_err(|_| TelemetryError::Filter)?;
    let context =
        filter_fn(|metadata: &Metadata<'_>| metadata.is_span() && *metadata.level() <= LevelFilter::INFO)
            .with_max_level_hint(LevelFilter::INFO);
    Ok(Box::new(chosen.or(context).and(cap())))
}

/// Returns the filter of exported logs: that of log lines, without what the exporter says of its own failures. Each would cause
/// another export.
pub(crate) fn exported_logs<S>(
    directives: Option<&str>,
) -> Result<Box<dyn Filter<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let others =
        Targets::new().with_default(LevelFilter::TRACE).with_target("opentelemetry", LevelFilter::OFF);
    Ok(Box::new(logs(directives)?.and(others)))
}

/// Returns the filter of exported traces: `info` and above, capped, independent of `RUST_LOG`.
pub(crate) fn traces() -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("larkauth", LevelFilter::INFO)
        // The exporter must not trace its own failures: each would cause another export.
        .with_target("opentelemetry", LevelFilter::OFF)
}

/// Returns the layer with the filter, boxed.
pub(crate) fn filtered<S, L>(
    layer: L,
    filter: Box<dyn Filter<S> + Send + Sync>,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: Layer<S> + Send + Sync,
{
    layer.with_filter(filter).boxed()
}
