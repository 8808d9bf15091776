use larkauth_models::{AppId, Timestamp};

/// Where a long connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first attempt is under way.
    Connecting,
    /// The server was heard on this connection: pushes arrive.
    Connected {
        /// Since when.
        since: Timestamp,
    },
    /// The connection was lost or could not be made; trying again.
    Reconnecting {
        /// Failed attempts in a row.
        failures: u32,
    },
    /// Too many failures in a row: HTTP callbacks should take over. Trying again goes on at the slowest pace.
    FallenBack {
        /// Failed attempts in a row.
        failures: u32,
    },
    /// Lark refused the credentials. Tried again only now and then, because they can be mended in the console.
    Rejected {
        /// What Lark said.
        reason: String,
    },
    /// Shut down.
    Stopped,
}

impl ConnectionState {
    /// True while no push can arrive.
    #[must_use]
    pub const fn is_deaf(&self) -> bool {
        !matches!(self, Self::Connected { .. })
    }

    /// True once HTTP callbacks should be accepted in place of the long connection.
    #[must_use]
    pub const fn is_fallen_back(&self) -> bool {
        matches!(self, Self::FallenBack { .. })
    }

    /// One word, for status pages and metrics.
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

/// Is told what happens to a long connection, for metrics. Must not block.
pub trait LongConnectionObserver: Send + Sync + 'static {
    /// The connection is in a new state.
    fn state_changed(&self, app_id: &AppId, state: &ConnectionState) {
        let _ = (app_id, state);
    }
    /// An attempt to connect, the first or a later one, ended: `connected` or the
    /// [label](super::ConnectError::label) of its error.
    fn connect_attempted(&self, app_id: &AppId, outcome: &'static str) {
        let _ = (app_id, outcome);
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NoObserver;

impl LongConnectionObserver for NoObserver {}
