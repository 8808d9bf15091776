use tokio_tungstenite::tungstenite;

use larkauth_net::explain_tls;

use crate::{
    error::{WRONG_CLOUD, WRONG_CLOUD_MESSAGE},
    http::{CA_SETTING, one_line},
};

/// Why a connection could not be made. Texts of Lark are cut to one bounded line. Secrets and addresses are left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A step timed out.
    #[error("{step} timed out")]
    Deadline {
        /// `discovery` or `handshake`.
        step: &'static str,
    },
    /// The connection could not be made, or broke.
    #[error("{step} failed: {reason}")]
    Network {
        /// `discovery` or `handshake`.
        step: &'static str,
        /// The error of the network or TLS layer.
        reason: String,
    },
    /// The response has an HTTP error status and no code of Lark.
    #[error("{step} was answered with HTTP status {status}")]
    HttpStatus {
        /// `discovery` or `handshake`.
        step: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// Lark is overloaded.
    #[error("Lark is busy (code {code}: {message})")]
    Busy {
        /// Lark's code.
        code: i64,
        /// Lark's message.
        message: String,
    },
    /// The response is not of the documented form.
    #[error("the response to discovery is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The handshake was refused for a transient reason.
    #[error("Lark refused the handshake (status {status}: {message})")]
    Refused {
        /// Lark's handshake status.
        status: u16,
        /// Lark's message.
        message: String,
    },
    /// The application has reached Lark's limit of connections (50).
    #[error("the application has too many long connections open: stop some of them")]
    TooManyConnections,
    /// The credentials are wrong, or the application may not use long connections. A retry alone does not help.
    #[error("Lark refuses this application (code {code}: {message}): {}", rejection(*code))]
    Rejected {
        /// Lark's code.
        code: i64,
        /// Lark's message.
        message: String,
    },
    /// The connection was made and ended before a message of the server arrived.
    #[error("the connection ended before a message of the server arrived: {reason}")]
    NeverHeard {
        /// Why the connection ended.
        reason: String,
    },
}

/// Lark's code for an application that may not use long connections. Only published, self-built applications may.
const NOT_ALLOWED: i64 = 403;

/// Returns what to do about an application that Lark refuses.
const fn rejection(code: i64) -> &'static str {
    match code {
        WRONG_CLOUD => WRONG_CLOUD_MESSAGE,
        _ => "check its id, its secret and its event settings in the developer console",
    }
}

impl ConnectError {
    /// Returns true when the application may not use long connections, also with the right secret.
    #[must_use]
    pub const fn is_not_allowed(&self) -> bool {
        matches!(self, Self::Rejected { code: NOT_ALLOWED, .. })
    }

    /// Returns a label for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Deadline { .. } => "timeout",
            Self::Network { .. } => "network",
            Self::HttpStatus { .. } => "http_status",
            Self::Busy { .. } => "busy",
            Self::Malformed { .. } => "malformed",
            Self::Refused { .. } => "refused",
            Self::TooManyConnections => "too_many_connections",
            Self::Rejected { .. } => "rejected",
            Self::NeverHeard { .. } => "never_heard",
        }
    }
}

/// Describes a WebSocket error. The text of errors that may quote the address, which holds a ticket, is left out.
pub(super) fn websocket_reason(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Io(e) => explain_tls(e, CA_SETTING).unwrap_or_else(|| one_line(&e.to_string())),
        tungstenite::Error::Tls(e) => one_line(&format!("TLS: {e}")),
        tungstenite::Error::Protocol(e) => one_line(&e.to_string()),
        tungstenite::Error::Capacity(e) => one_line(&e.to_string()),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            "connection closed".into()
        }
        tungstenite::Error::Url(_) => "the address from discovery cannot be reached".into(),
        _ => "WebSocket error".into(),
    }
}
