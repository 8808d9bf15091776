use std::time::Duration;

use larkauth_net::Network;
use url::Url;

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One flat JSON object per line, for machines.
    Json,
    /// One short line of text, for a terminal.
    Pretty,
}

/// Arguments of [`init`](crate::init).
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// `service.name` of every span, for example `larkauth-gateway`.
    pub service_name: String,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// `RUST_LOG` directives; `None` means `info`.
    pub filter: Option<String>,
    /// Base address of an OTLP/HTTP collector (`http://host:4318`); `/v1/traces` is added. `None` exports nothing.
    pub otlp_endpoint: Option<Url>,
    /// Log lines go to the collector, too.
    pub export_logs: bool,
    /// The interval in which metrics go to the collector, too; `None` exports none. See [`MetricsExporter`](crate::MetricsExporter).
    pub export_metrics: Option<Duration>,
    /// Colours in [`LogFormat::Pretty`].
    pub ansi: bool,
    /// Trust and proxies on the way to the collector.
    pub network: Network,
}
