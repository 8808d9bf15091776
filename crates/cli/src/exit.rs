//! Exit codes of commands. They are part of the command line's contract: docs/cli.md lists them.

use larkauth_auth::AuthError;
use larkauth_config::ConfigError;
use larkauth_telemetry::TelemetryError;

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong arguments or settings; clap ends with the same number.
pub(crate) const USAGE: u8 = 2;
/// The named object does not exist.
pub(crate) const NOT_FOUND: u8 = 3;
/// The person did not authorize, or not in time.
pub(crate) const NOT_AUTHORIZED: u8 = 4;

/// A failure with its own exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The arguments do not make sense together.
    #[error("{0}")]
    Usage(String),
    /// The named object does not exist.
    #[error("{0}")]
    NotFound(String),
}

/// Returns the exit code of a failure.
pub(crate) fn code_of(error: &anyhow::Error) -> u8 {
    // What telemetry refuses comes from RUST_LOG and OTEL_EXPORTER_OTLP_ENDPOINT.
    if error.is::<ConfigError>() || error.is::<TelemetryError>() {
        return USAGE;
    }
    match (error.downcast_ref::<CommandError>(), error.downcast_ref::<AuthError>()) {
        (Some(CommandError::Usage(_)), _) | (_, Some(AuthError::Invalid(_))) => USAGE,
        (Some(CommandError::NotFound(_)), _)
        | (_, Some(AuthError::AppNotFound(_) | AuthError::SessionNotFound(_))) => NOT_FOUND,
        _ => FAILED,
    }
}
