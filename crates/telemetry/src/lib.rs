//! What an operator sees: log lines, traces, metrics, readiness.
//!
//! [`init`] is called once at the start of a process, its guard is shut down at the end. [`propagation`] carries the
//! W3C trace context through message headers and HTTP. [`Metrics`] holds every Prometheus metric of the product,
//! [`Health`] what `/readyz` answers. No HTTP server and no background task lives here.
//!
//! Secrets stay out by two walls: our own types print nothing, and other people's crates are capped ([`init`]).
//!
//! To add a metric: a field and its line in `metrics/families.rs`, a method in `metrics/mod.rs`, a call in its test.

mod error;
mod filter;
mod health;
mod init;
mod json;
mod metrics;
mod panic;
pub mod propagation;

pub use error::TelemetryError;
pub use health::{Health, HealthHandle, HealthPart, HealthReport};
pub use init::{LogFormat, TelemetryConfig, TelemetryGuard, init, init_with};
pub use metrics::Metrics;
