//! Setup and shutdown of telemetry in a process.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::sync::oneshot;
use tracing::Subscriber;
use tracing_subscriber::{
    Layer, Registry,
    fmt::MakeWriter,
    layer::{Identity, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::{
    config::{LogFormat, TelemetryConfig},
    error::TelemetryError,
    filter,
    json::{JsonLines, JsonMembers},
    otlp::{self, Providers},
    panic,
};

/// Deadline of everything that goes to the collector at the end of a process: 3 s. Work in progress takes up to
/// `SHUTDOWN_GRACE_SECONDS` before, and both have to fit into the time that an orchestrator waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Guard of telemetry. Call [`TelemetryGuard::shutdown`] on every exit from `main`; dropping the guard also flushes, but
/// blocks the thread.
#[derive(Debug)]
#[must_use = "telemetry ends when this is dropped"]
pub struct TelemetryGuard {
    providers: Option<Providers>,
}

impl TelemetryGuard {
    /// Sends the buffered spans and log lines, and the metrics of [`export_at_end`](crate::export_at_end), to the collector: all
    /// at once, within three seconds. What a collector has not taken by then is lost.
    pub async fn shutdown(mut self) {
        let Some(providers) = self.providers.take() else { return };
        let (done, flushed) = oneshot::channel();
        // The client of the exporters blocks, which is forbidden on a thread of the runtime; and a runtime waits at its end for
        // threads that block.
        std::thread::spawn(move || {
            // After the deadline no receiver is left.
            let _ = done.send(providers.shutdown(FLUSH_TIMEOUT));
        });
        let all = async { tokio::join!(flushed, otlp::export_last()) };
        match tokio::time::timeout(FLUSH_TIMEOUT, all).await {
            Ok((Ok(Ok(())), Ok(()))) => {}
            Ok((Ok(Err(error)), _)) => {
                tracing::warn!(%error, "the last spans or logs did not reach the collector");
            }
            Ok((_, Err(error))) => tracing::warn!(%error, "the last metrics did not reach the collector"),
            Ok((Err(_), Ok(()))) | Err(_) => {
                tracing::warn!("the last spans, logs or metrics did not reach the collector in time");
            }
        }
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(providers) = self.providers.take()
            && let Err(error) = providers.shutdown(FLUSH_TIMEOUT)
        {
            tracing::warn!(%error, "the last spans or logs did not reach the collector");
        }
    }
}

/// Sets up logging (to standard error), tracing, trace context propagation and the panic hook for this process.
///
/// **Hard cap.** Regardless of `RUST_LOG`, only the crates of this product log below `info`, and crates that handle whole
/// requests, frames or statements (HTTP, TLS, WebSocket, AMQP, SQL) log nothing below `warn`: their payload contains tokens.
///
/// Log lines and messages have trace ids even when no collector is configured.
///
/// # Errors
/// Fails when the directives or the address of the collector are invalid, and on a second call.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    install(config, Identity::new(), config.otlp_endpoint.is_some())
}

/// Sets up telemetry as [`init`] does, with an additional layer. The layer receives the spans and events of exported traces:
/// `info` and above, under the same hard cap.
///
/// # Errors
/// Fails as [`init`] does.
pub fn init_with<L>(config: &TelemetryConfig, extra_layer: L) -> Result<TelemetryGuard, TelemetryError>
where
    L: Layer<Registry> + Send + Sync,
{
    install(config, extra_layer, true)
}

/// Returns whether the spans of this process reach more than its log lines: a collector, or the layer of [`init_with`].
#[must_use]
pub fn spans_are_recorded() -> bool {
    SPANS_ARE_RECORDED.load(Ordering::Relaxed)
}

/// As global as the subscriber that it describes.
static SPANS_ARE_RECORDED: AtomicBool = AtomicBool::new(false);

fn install<L>(
    config: &TelemetryConfig,
    extra_layer: L,
    spans_are_recorded: bool,
) -> Result<TelemetryGuard, TelemetryError>
where
    L: Layer<Registry> + Send + Sync,
{
    let (subscriber, providers) = build(config, io::stderr, extra_layer)?;
    let guard = TelemetryGuard { providers: Some(providers) };
    subscriber.try_init().map_err(|_| TelemetryError::AlreadySet)?;
    SPANS_ARE_RECORDED.store(spans_are_recorded, Ordering::Relaxed);
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    panic::install_hook();
    Ok(guard)
}

/// Builds the subscriber without installing it.
pub(crate) fn build<W, L>(
    config: &TelemetryConfig,
    writer: W,
    extra_layer: L,
) -> Result<(impl Subscriber + Send + Sync + use<W, L>, Providers), TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    L: Layer<Registry> + Send + Sync,
{
    let filter = filter::logs(config.filter.as_deref())?;
    let providers = Providers::new(config)?;
    let traces = tracing_opentelemetry::layer()
        .with_tracer(providers.traces.tracer("larkauth"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter::traces());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let logs = match config.log_format {
        LogFormat::Json => {
            filter::filtered(lines.with_ansi(false).fmt_fields(JsonMembers).event_format(JsonLines), filter)
        }
        LogFormat::Pretty => filter::filtered(lines.with_ansi(config.ansi).compact(), filter),
    };
    let exported = match &providers.logs {
        Some(logs) => Some(
            OpenTelemetryTracingBridge::new(logs)
                .with_filter(filter::exported_logs(config.filter.as_deref())?),
        ),
        None => None,
    };
    let extra_layer = extra_layer.with_filter(filter::traces());
    Ok((Registry::default().with(extra_layer).with(logs).with(traces).with(exported), providers))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::{Level, info, info_span, warn};

    use larkauth_net::Network;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
        fn lines(&self) -> Vec<Value> {
            self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
        fn subscriber(
            &self,
            log_format: LogFormat,
            filter: Option<&str>,
        ) -> (impl Subscriber + Send + Sync + use<>, Providers) {
            let config = TelemetryConfig {
                service_name: "test".into(),
                log_format,
                filter: filter.map(Into::into),
                otlp_endpoint: None,
                export_logs: false,
                export_metrics: None,
                network: Network::default(),
                ansi: false,
            };
            let buffer = self.clone();
            build(&config, move || buffer.clone(), Identity::new()).unwrap()
        }
        fn with(&self, log_format: LogFormat, filter: Option<&str>, run: impl FnOnce()) {
            let (subscriber, _providers) = self.subscriber(log_format, filter);
            tracing::subscriber::with_default(subscriber, run);
        }
    }

    #[test]
    fn json_line_in_nested_spans_is_flat_with_span_fields_and_trace_id() {
        let buffer = Buffer::default();
        buffer.with(LogFormat::Json, None, || {
            let outer = info_span!("gateway.request", request_id = "r-1", app_id = tracing::field::Empty);
            outer.record("app_id", "cli_1");
            let _outer = outer.enter();
            let _inner = info_span!("auth.session.create", session_id = "s-1", n = 1).entered();
            info!(n = 2, ok = true, "created");
        });
        let line = &buffer.lines()[0];
        for (name, value) in [
            ("level", Value::from("INFO")),
            ("message", "created".into()),
            ("request_id", "r-1".into()),
            ("app_id", "cli_1".into()),
            ("session_id", "s-1".into()),
            ("n", 2.into()),
            ("ok", true.into()),
            ("span", "auth.session.create".into()),
        ] {
            assert_eq!(line[name], value, "{name} in {line}");
        }
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32, "{line}");
        assert_eq!(line["span_id"].as_str().unwrap().len(), 16, "{line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }

    #[test]
    fn json_line_of_warning_under_warn_filter_has_span_fields() {
        let buffer = Buffer::default();
        buffer.with(LogFormat::Json, Some("warn"), || {
            let _span = info_span!("work", session_id = "s-1").entered();
            info!("not shown");
            warn!("shown");
        });
        assert_eq!(buffer.lines().len(), 1);
        assert_eq!(buffer.lines()[0]["session_id"], "s-1");
    }

    #[test]
    fn log_filter_with_trace_level_keeps_other_crates_capped() {
        let buffer = Buffer::default();
        buffer.with(LogFormat::Json, Some("trace,hyper=trace,unheard_of=trace"), || {
            tracing::trace!(target: "larkauth_auth", "ours");
            tracing::debug!(target: "hyper::proto", "u-secret");
            tracing::info!(target: "sqlx::query", "u-secret");
            tracing::info!(target: "lapin::channel", "u-secret");
            tracing::trace!(target: "axum::rejection", "u-secret");
            tracing::debug!(target: "unheard_of", "u-secret");
            let _span = tracing::span!(target: "h2", Level::DEBUG, "frame", body = "u-secret").entered();
            tracing::warn!(target: "sqlx::query", "slow");
        });
        let messages: Vec<_> = buffer.lines().iter().map(|line| line["message"].clone()).collect();
        assert_eq!(messages, ["ours", "slow"]);
        assert!(!buffer.text().contains("u-secret"));
    }

    #[test]
    fn pretty_line_in_span_is_one_line_with_span_fields() {
        let buffer = Buffer::default();
        buffer.with(LogFormat::Pretty, None, || {
            let _span = info_span!("work", session_id = "s-1").entered();
            info!("created");
        });
        let text = buffer.text();
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("created") && text.contains("session_id=\"s-1\""), "{text}");
    }

    #[test]
    fn build_with_invalid_filter_returns_error_naming_variable() {
        let config = TelemetryConfig {
            service_name: "test".into(),
            log_format: LogFormat::Json,
            filter: Some("info,=,=".into()),
            otlp_endpoint: None,
            export_logs: false,
            export_metrics: None,
            network: Network::default(),
            ansi: false,
        };
        let error = build(&config, io::sink, Identity::new()).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("RUST_LOG"), "{error}");
    }

    /// The only test that installs globally, which the `log` crate and the panic hook require.
    #[test]
    fn global_subscriber_caps_log_crate_and_hides_panic_data() {
        let buffer = Buffer::default();
        let (subscriber, _providers) = buffer.subscriber(LogFormat::Json, Some("trace"));
        subscriber.try_init().unwrap();
        log::trace!(target: "tungstenite::protocol", "u-secret");
        log::info!(target: "rustls::client", "u-secret");
        log::warn!(target: "tungstenite::protocol", "closed");
        let before = std::panic::take_hook();
        panic::install_hook();
        let secret = "u-secret";
        let _ = std::panic::catch_unwind(|| panic!("a plain text"));
        let _ = std::panic::catch_unwind(|| panic!("with {secret}"));
        std::panic::set_hook(before);

        assert!(!buffer.text().contains("u-secret"), "{}", buffer.text());
        let lines = buffer.lines();
        let closed = lines.iter().find(|line| line["message"] == "closed").unwrap();
        assert_eq!(closed["target"], "tungstenite::protocol");
        let panics: Vec<_> = lines.iter().filter(|line| line["location"].is_string()).collect();
        assert_eq!(panics.len(), 2);
        assert_eq!(panics[0]["text"], "a plain text");
        assert!(panics[1]["location"].as_str().unwrap().contains("init.rs"));
    }
}
