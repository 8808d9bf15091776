//! Long connections: tickets, open connections, and pushes that wait for an answer.

use bytes::Bytes;
use larkauth_models::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::ledger::Ledger;
use crate::net::ConnectionControl;

/// Identity of a connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionIds {
    pub(crate) app_id: String,
    pub(crate) device_id: String,
    pub(crate) service_id: i32,
}

/// Permission to open one connection.
pub(crate) struct Ticket {
    pub(crate) ids: ConnectionIds,
    pub(crate) expires_at: Timestamp,
}

/// One open connection.
pub(crate) struct Connection {
    pub(crate) ids: ConnectionIds,
    pub(crate) control: ConnectionControl,
    pub(crate) outbox: mpsc::Sender<Bytes>,
}

/// The client's answer to a push.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i64,
    /// Decoded `data`, if any.
    pub(crate) data: Option<Vec<u8>>,
}

/// A push that was sent.
pub(crate) struct Push {
    pub(crate) device_id: String,
    /// (`SeqID`, `LogID`) of its frames. An answer repeats one of them.
    pub(crate) frames: Vec<(u64, u64)>,
    pub(crate) sent_at: Instant,
    /// More than one answer is expected.
    pub(crate) duplicated: bool,
    pub(crate) answers: u32,
    pub(crate) waiting: Option<oneshot::Sender<Answer>>,
}

/// All tickets, connections and pushes.
pub(crate) struct Sockets {
    pub(crate) tickets: Ledger<Ticket>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) pushes: Ledger<Push>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { tickets: Ledger::new(10_000), connections: Vec::new(), pushes: Ledger::new(10_000) }
    }
}
