/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives are not understood.
    #[error("RUST_LOG cannot be understood: write directives like `info` or `info,larkauth_auth=debug`")]
    Filter,
    /// The exporter refused its configuration.
    #[error(
        "OTEL_EXPORTER_OTLP_ENDPOINT cannot be used ({0}): give the base address of an OTLP/HTTP collector"
    )]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// A second call in one process.
    #[error("telemetry is already set up in this process")]
    AlreadySet,
    /// Two metrics of the same name, or a malformed one.
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}
