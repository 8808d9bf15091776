/// Error in the setup of telemetry.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives are invalid.
    #[error("RUST_LOG is invalid: write directives like `info` or `info,larkauth_auth=debug`")]
    Filter,
    /// The exporter rejected the configuration.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT is invalid ({0}): give the base address of an OTLP/HTTP collector")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The HTTP client of the exporter cannot be built.
    #[error("the HTTP client for OTEL_EXPORTER_OTLP_ENDPOINT cannot be built; this is a defect of larkauth")]
    Client,
    /// Telemetry was set up before in this process.
    #[error("telemetry is already set up in this process")]
    AlreadySet,
    /// Two metrics have the same name, or one is malformed.
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}
