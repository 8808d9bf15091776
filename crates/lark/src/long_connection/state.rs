use larkauth_models::{AppId, Timestamp};

/// The state of a long connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first attempt is running.
    Connecting,
    /// A message of the server has arrived: pushes can arrive.
    Connected {
        /// Time of the first message.
        since: Timestamp,
    },
    /// The connection was lost or could not be made. Reconnecting continues with backoff.
    Reconnecting {
        /// Consecutive failed attempts.
        failures: u32,
    },
    /// Too many consecutive attempts failed: HTTP callbacks should take over. Reconnecting continues at the longest wait.
    FallenBack {
        /// Consecutive failed attempts.
        failures: u32,
    },
    /// Lark refused the credentials. They are retried at long intervals, as an operator can correct them in the console.
    Rejected {
        /// Lark's message.
        reason: String,
    },
    /// The connection was shut down.
    Stopped,
}

impl ConnectionState {
    /// Returns true while pushes can arrive.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    /// Returns true while HTTP callbacks should replace the long connection.
    #[must_use]
    pub const fn is_fallen_back(&self) -> bool {
        matches!(self, Self::FallenBack { .. })
    }

    /// Returns the state's name, for status pages and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected { .. } => "connected",
            Self::Reconnecting { .. } => "reconnecting",
            Self::FallenBack { .. } => "fallen_back",
            Self::Rejected { .. } => "rejected",
            Self::Stopped => "stopped",
        }
    }
}

/// Observes a long connection, for metrics. Must not block.
pub trait LongConnectionObserver: Send + Sync + 'static {
    /// Is called when the state has changed.
    fn state_changed(&self, app_id: &AppId, state: &ConnectionState) {
        let _ = (app_id, state);
    }
    /// Is called when an attempt to connect ended. `outcome` is `connected` or a
    /// [`ConnectError::label`](super::ConnectError::label).
    fn connect_attempted(&self, app_id: &AppId, outcome: &'static str) {
        let _ = (app_id, outcome);
    }
}

/// Ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NoObserver;

impl LongConnectionObserver for NoObserver {}
