//! What may be logged at which level.

use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, Targets, filter_fn},
    layer::Filter,
    registry::LookupSpan,
};

use crate::error::TelemetryError;

/// Used when `RUST_LOG` is not set.
const DEFAULT: &str = "info";

/// Crates that handle whole requests, frames or statements. Below `warn` they print what they handle.
const TALKERS: &[&str] = &[
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

/// The hard cap: our own crates may say everything (their secrets are in types that print nothing), other crates
/// nothing below `info`, and the [`TALKERS`] nothing below `warn`. A list of the trusted and not of the feared: a
/// dependency that nobody thought of is capped as well.
fn cap() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("larkauth", LevelFilter::TRACE)
        .with_targets(TALKERS.iter().map(|target| (*target, LevelFilter::WARN)))
        // Calls every end of a connection an error, an orderly one too, and prints returned messages whole. What is lost
        // and why is told by larkauth_messaging.
        .with_target("lapin", LevelFilter::OFF)
}

/// The filter of log lines: `RUST_LOG` and the cap.
///
/// Spans of `info` and above pass whatever `RUST_LOG` says, so that a warning still carries its `session_id`.
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

/// The filter of exported traces: `info` and above, capped, independent of `RUST_LOG`.
pub(crate) fn traces() -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("larkauth", LevelFilter::INFO)
        // The exporter must not trace its own failures: each would make the next export.
        .with_target("opentelemetry", LevelFilter::OFF)
}

/// Adds the boxed filter to a boxed layer.
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
