//! Admission of long connections, and the choice of one of them for a push.

use bytes::Bytes;
use larkauth_models::Timestamp;
use tokio::sync::mpsc;

use crate::{
    net::ConnectionControl,
    state::{
        State, after,
        sockets::{Connection, ConnectionIds, Ticket},
    },
    violations::ViolationKind,
};

/// Reason for a refused upgrade: `Handshake-Status`, `Handshake-Msg`, `Handshake-Autherrcode`.
pub(crate) struct HandshakeRefusal {
    pub(crate) status: u16,
    pub(crate) msg: &'static str,
    pub(crate) auth_error: Option<i64>,
}

impl State {
    /// Issues a single-use ticket with the ids of its connection.
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

    /// Returns the application of a ticket.
    pub(crate) fn ticket_app(&self, ticket: &str) -> Option<String> {
        self.sockets.tickets.get(ticket).map(|ticket| ticket.ids.app_id.clone())
    }

    /// Consumes a ticket and opens its connection. Returns the connection's ids.
    pub(crate) fn admit(
        &mut self,
        now: Timestamp,
        ticket: &str,
        control: ConnectionControl,
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
        self.sockets.connections.push(Connection { ids: ids.clone(), control, outbox });
        Ok(ids)
    }

    pub(crate) fn connections_of(&self, app_id: &str) -> usize {
        self.sockets.connections.iter().filter(|connection| connection.ids.app_id == app_id).count()
    }

    /// Removes a connection. Pushes that wait for its answers fail at once.
    pub(crate) fn disconnected(&mut self, device_id: &str) {
        self.sockets.connections.retain(|connection| connection.ids.device_id != device_id);
        for push in self.sockets.pushes.values_mut().filter(|push| push.device_id == device_id) {
            push.waiting = None;
        }
    }

    /// Returns one of the application's connections at random, as in cluster mode.
    pub(crate) fn pick_connection(&self, app_id: &str) -> Option<&Connection> {
        let open: Vec<_> =
            self.sockets.connections.iter().filter(|connection| connection.ids.app_id == app_id).collect();
        if open.is_empty() { None } else { open.get(self.random_below(open.len())).copied() }
    }
}
