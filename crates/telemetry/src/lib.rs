//! Observability of a process: log lines, traces, metrics, readiness.
//!
//! [`init`] is called once at the start of a process, its guard is shut down at the end. [`propagation`] carries the
//! W3C trace context through message headers and HTTP. [`Metrics`] has every Prometheus metric of the product,
//! [`Health`] the answers of `/health` and `/readyz`. This crate has no HTTP server and no background task.
//!
//! Two measures keep secrets out: `Debug` of our types shows none, and third-party crates are capped ([`init`]).
//!
//! To add a metric: a field and its line in `metrics/families.rs`, a method in `metrics/mod.rs`, a call in its test.

mod config;
mod error;
mod filter;
mod health;
mod init;
mod json;
mod metrics;
mod otlp;
mod panic;
pub mod propagation;

pub use config::{LogFormat, TelemetryConfig};
pub use error::TelemetryError;
pub use health::{Health, HealthHandle, HealthPart, HealthReport, HealthStatus, PartState, Readiness};
pub use init::{TelemetryGuard, init, init_with, spans_are_recorded};
pub use metrics::Metrics;
pub use otlp::{ExportError, MetricsExporter, export_at_end};
