use tokio_tungstenite::tungstenite;

use crate::http::one_line;

/// Why a connection could not be made. Texts of Lark in it are one bounded line; secrets and addresses never are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A step did not end in time.
    #[error("{step} did not end in time")]
    Deadline {
        /// `discovery` or `handshake`.
        step: &'static str,
    },
    /// No connection, or it broke.
    #[error("{step} failed: {reason}")]
    Network {
        /// `discovery` or `handshake`.
        step: &'static str,
        /// What the network or TLS layer said.
        reason: String,
    },
    /// An HTTP status that says nothing about us.
    #[error("{step} was answered with HTTP status {status}")]
    HttpStatus {
        /// `discovery` or `handshake`.
        step: &'static str,
        /// The status.
        status: u16,
    },
    /// Lark asks to come back later.
    #[error("Lark is busy (code {code}: {message})")]
    Busy {
        /// Lark's code.
        code: i64,
        /// Lark's words.
        message: String,
    },
    /// An answer that is not of the documented form.
    #[error("discovery was answered with nonsense: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The handshake was refused for a reason that may pass.
    #[error("Lark refused the handshake (status {status}: {message})")]
    Refused {
        /// Lark's handshake status.
        status: u16,
        /// Lark's words.
        message: String,
    },
    /// The application has as many connections as Lark allows (50).
    #[error("the application has too many long connections open: stop some of them")]
    TooManyConnections,
    /// Wrong credentials, or the application may not do this. Trying again does not help by itself.
    #[error(
        "Lark refuses this application (code {code}: {message}): check its id, its secret and its event settings in the developer console"
    )]
    Rejected {
        /// Lark's code.
        code: i64,
        /// Lark's words.
        message: String,
    },
    /// The connection was made and ended before the server was heard on it.
    #[error("the connection ended before the server was heard: {reason}")]
    NeverHeard {
        /// How it ended.
        reason: String,
    },
}

/// "The application may not do this": long connections are for published, self-built applications only.
const NOT_ALLOWED: i64 = 403;

impl ConnectError {
    /// Whether the application itself is at fault, rather than its secret.
    #[must_use]
    pub const fn is_not_allowed(&self) -> bool {
        matches!(self, Self::Rejected { code: NOT_ALLOWED, .. })
    }

    /// One word for metrics.
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

/// What a WebSocket error says. Kinds that may quote the address, which holds a ticket, are named only.
pub(super) fn websocket_reason(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Io(e) => one_line(&e.to_string()),
        tungstenite::Error::Tls(e) => one_line(&format!("TLS: {e}")),
        tungstenite::Error::Protocol(e) => one_line(&e.to_string()),
        tungstenite::Error::Capacity(e) => one_line(&e.to_string()),
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            "connection closed".into()
        }
        tungstenite::Error::Url(_) => "no connection to the address given by discovery".into(),
        _ => "WebSocket error".into(),
    }
}
