//! Long connections: tickets, who is connected, and which pushes wait for an answer.

use bytes::Bytes;
use larkauth_models::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{State, after, ledger::Ledger};
use crate::{net::Line, violations::ViolationKind};

/// What identifies a connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionIds {
    pub(crate) app_id: String,
    pub(crate) device_id: String,
    pub(crate) service_id: i32,
}

/// Permission to open one connection.
struct Ticket {
    ids: ConnectionIds,
    expires_at: Timestamp,
}

/// One open connection.
pub(crate) struct Connection {
    pub(crate) ids: ConnectionIds,
    pub(crate) line: Line,
    pub(crate) outbox: mpsc::Sender<Bytes>,
}

/// What the client answered to a push.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i64,
    /// Decoded `data`, where there is one.
    pub(crate) data: Option<Vec<u8>>,
}

/// A push that was made.
pub(crate) struct Push {
    pub(crate) device_id: String,
    /// (`SeqID`, `LogID`) of its frames: an answer repeats one of them.
    pub(crate) frames: Vec<(u64, u64)>,
    pub(crate) sent_at: Instant,
    /// More than one answer is expected.
    pub(crate) duplicated: bool,
    pub(crate) answers: u32,
    pub(crate) waiting: Option<oneshot::Sender<Answer>>,
}

/// All of it.
pub(crate) struct Sockets {
    tickets: Ledger<Ticket>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) pushes: Ledger<Push>,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { tickets: Ledger::new(10_000), connections: Vec::new(), pushes: Ledger::new(10_000) }
    }
}

/// Why an upgrade is refused: `Handshake-Status`, `Handshake-Msg`, `Handshake-Autherrcode`.
pub(crate) struct HandshakeRefusal {
    pub(crate) status: u16,
    pub(crate) msg: &'static str,
    pub(crate) auth_error: Option<i64>,
}

impl State {
    /// A single-use ticket and the ids that go with it.
    pub(crate) fn issue_ticket(&mut self, now: Timestamp, app_id: &str) -> (String, ConnectionIds) {
        let ticket = self.issue("", 43);
        let device_id =
            format!("{}", 7_000_000_000_000_000_000_u64 + self.random_below(999_999_999_999) as u64);
        let service_id = i32::try_from(33_554_432 + self.random_below(1_000_000)).unwrap_or(33_554_432);
        let ids = ConnectionIds { app_id: app_id.to_owned(), device_id, service_id };
        let entry = Ticket { ids: ids.clone(), expires_at: after(now, self.lifetimes.ticket) };
        self.sockets.tickets.insert(ticket.clone(), entry);
        (ticket, ids)
    }

    /// Whose ticket it is.
    pub(crate) fn ticket_app(&self, ticket: &str) -> Option<String> {
        self.sockets.tickets.get(ticket).map(|ticket| ticket.ids.app_id.clone())
    }

    /// Uses a ticket up and opens its connection; gives the connection's ids.
    pub(crate) fn admit(
        &mut self,
        now: Timestamp,
        ticket: &str,
        line: Line,
        outbox: mpsc::Sender<Bytes>,
    ) -> Result<ConnectionIds, HandshakeRefusal> {
        const BAD: HandshakeRefusal = HandshakeRefusal { status: 403, msg: "Forbidden", auth_error: None };
        let ticket =
            self.sockets.tickets.remove(ticket).filter(|ticket| now < ticket.expires_at).ok_or(BAD)?;
        let ids = ticket.ids;
        if !self.apps.get(&ids.app_id).is_some_and(|app| app.enabled) {
            return Err(BAD);
        }
        if self.connections_of(&ids.app_id) >= self.limits.connections {
            self.violations.add(now, ViolationKind::TooManyConnections, &ids.app_id, "");
            return Err(HandshakeRefusal {
                status: 514,
                msg: "the number of connections exceeded the limit",
                auth_error: Some(1_000_040_350),
            });
        }
        self.stats.connections_opened += 1;
        self.sockets.connections.push(Connection { ids: ids.clone(), line, outbox });
        Ok(ids)
    }

    pub(crate) fn connections_of(&self, app_id: &str) -> usize {
        self.sockets.connections.iter().filter(|connection| connection.ids.app_id == app_id).count()
    }

    /// Forgets a connection; whoever waits for its answers learns at once.
    pub(crate) fn disconnected(&mut self, device_id: &str) {
        self.sockets.connections.retain(|connection| connection.ids.device_id != device_id);
        for push in self.sockets.pushes.values_mut().filter(|push| push.device_id == device_id) {
            push.waiting = None;
        }
    }

    /// Cluster mode: any one of the application's connections.
    pub(crate) fn pick_connection(&self, app_id: &str) -> Option<&Connection> {
        let open: Vec<_> =
            self.sockets.connections.iter().filter(|connection| connection.ids.app_id == app_id).collect();
        if open.is_empty() { None } else { open.get(self.random_below(open.len())).copied() }
    }
}
