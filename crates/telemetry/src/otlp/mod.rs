//! Export to an OTLP/HTTP collector: of traces, and of logs and metrics when they are asked for.

mod metrics;

use larkauth_models::{Entropy, OsEntropy, SystemClock};
use larkauth_net::Network;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{LogExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    logs::SdkLoggerProvider,
    trace::{Sampler, SdkTracerProvider},
};
use std::{sync::LazyLock, time::Duration};
use url::Url;

use crate::{config::TelemetryConfig, error::TelemetryError};

pub(crate) use self::metrics::export_last;
pub use self::metrics::{ExportError, MetricsExporter, export_at_end};

/// Deadline of one export to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent to the collector in the background, by threads of the SDK.
#[derive(Debug)]
pub(crate) struct Providers {
    pub(crate) traces: SdkTracerProvider,
    pub(crate) logs: Option<SdkLoggerProvider>,
}

impl Providers {
    /// Builds the exporters of the configuration.
    pub(crate) fn new(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let Some(endpoint) = &config.otlp_endpoint else {
            // Spans have ids. What they would record has no receiver.
            let traces = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build();
            return Ok(Self { traces, logs: None });
        };
        let resource = resource(&config.service_name);
        let client = blocking_client(&config.network)?;
        let spans = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(path(endpoint, "traces"))
            .with_timeout(EXPORT_TIMEOUT)
            .with_http_client(client.clone())
            .build()
            .map_err(TelemetryError::Exporter)?;
        let logs = || {
            let records = LogExporter::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(path(endpoint, "logs"))
                .with_timeout(EXPORT_TIMEOUT)
                .with_http_client(client)
                .build()
                .map_err(TelemetryError::Exporter)?;
            let provider = SdkLoggerProvider::builder().with_resource(resource.clone());
            Ok::<_, TelemetryError>(provider.with_batch_exporter(records).build())
        };
        let logs = config.export_logs.then(logs).transpose()?;
        let traces = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(spans).build();
        Ok(Self { traces, logs })
    }

    /// Sends what is buffered, all kinds at once and within the time.
    pub(crate) fn shutdown(&self, timeout: Duration) -> Result<(), OTelSdkError> {
        std::thread::scope(|scope| {
            let logs =
                self.logs.as_ref().map(|logs| scope.spawn(move || logs.shutdown_with_timeout(timeout)));
            let traces = self.traces.shutdown_with_timeout(timeout);
            let panicked = || Err(OTelSdkError::InternalFailure("the flush of logs panicked".to_owned()));
            let logs = logs.map_or(Ok(()), |logs| logs.join().unwrap_or_else(|_| panicked()));
            traces.and(logs)
        })
    }
}

/// Returns the address for one kind of data.
fn path(endpoint: &Url, kind: &str) -> String {
    format!("{}/v1/{kind}", endpoint.as_str().trim_end_matches('/'))
}

/// Returns what describes this process: `service.name`, `service.version`, `service.instance.id`, and what
/// `OTEL_RESOURCE_ATTRIBUTES` adds. Counters of two processes must not be taken for one.
fn resource(service_name: &str) -> Resource {
    static INSTANCE: LazyLock<String> = LazyLock::new(|| OsEntropy.uuid(&SystemClock).to_string());
    let detected = Resource::builder().build();
    let resource = Resource::builder()
        .with_service_name(service_name.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if detected.get(&Key::new("service.instance.id")).is_some() {
        return resource.build();
    }
    resource.with_attribute(KeyValue::new("service.instance.id", INSTANCE.as_str())).build()
}

/// Builds the blocking client of the SDK's threads, on a thread of its own: it must not be built on a thread of the runtime.
fn blocking_client(network: &Network) -> Result<reqwest::blocking::Client, TelemetryError> {
    let network = network.clone();
    let build = move || {
        reqwest::blocking::Client::builder()
            .timeout(EXPORT_TIMEOUT)
            .tls_backend_preconfigured(network.http_tls())
            .proxy(network.http_proxy())
            .build()
    };
    let built = std::thread::spawn(build).join();
    built.map_err(|_| TelemetryError::Client)?.map_err(|_| TelemetryError::Client)
}
