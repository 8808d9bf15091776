//! One of the two connections of a process, as its users see it.

use std::{sync::Arc, time::Duration};

use larkauth_models::Backoff;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::connection::{Connection, Inbox};
use crate::{BusError, BusHealth};

/// Longest wait of a caller for a reconnect, 500 ms, so that its own caller is not kept waiting.
const RECONNECT_GRACE: Duration = Duration::from_millis(500);
/// Longest wait between attempts to connect, and the age at which a connection counts as stable, 30 s.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Largest deviation from a wait, a quarter of it, so that processes do not reconnect at the same time.
pub(super) const JITTER: f64 = 0.25;
/// Waits of a starting process: short at first, since the broker may be starting too.
pub(super) const STARTING: Backoff = Backoff::new(Duration::from_millis(100), LONGEST_WAIT, JITTER);

/// The connection as its users see it.
#[derive(Clone, Debug)]
pub(super) enum State {
    Up(Arc<Connection>),
    Down(BusError),
    Closed,
}

/// The current connection of a role.
#[derive(Debug)]
pub(super) struct Link {
    state: watch::Sender<State>,
}

impl Link {
    pub(super) fn new() -> Self {
        let message = "not connected yet".to_owned();
        let error = BusError::Unavailable { during: "connect", message };
        Self { state: watch::Sender::new(State::Down(error)) }
    }

    pub(super) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    pub(super) fn health(&self) -> BusHealth {
        match &*self.state.borrow() {
            State::Up(connection) => match connection.blocked() {
                Some(reason) => BusHealth::Blocked { reason },
                None => BusHealth::Up,
            },
            State::Down(error) => BusHealth::Down { reason: error.to_string() },
            State::Closed => BusHealth::Down { reason: "closed".to_owned() },
        }
    }

    /// Returns the connection if there is one now.
    pub(super) fn current(&self) -> Option<Arc<Connection>> {
        match &*self.state.borrow() {
            State::Up(connection) if !connection.broken.is_cancelled() => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    /// Waits for a connection without a deadline. `None` when the bus is closed.
    ///
    /// # Errors
    /// [`BusError::Topology`], which waiting does not correct.
    pub(super) async fn connection(&self) -> Result<Option<Arc<Connection>>, BusError> {
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                State::Up(connection) if !connection.broken.is_cancelled() => {
                    return Ok(Some(Arc::clone(connection)));
                }
                State::Down(error @ BusError::Topology(_)) => return Err(error.clone()),
                State::Closed => return Ok(None),
                State::Up(_) | State::Down(_) => {}
            }
            if state.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Waits for a connection for at most [`RECONNECT_GRACE`].
    pub(super) async fn connection_soon(
        &self,
        during: &'static str,
        deadline: Instant,
    ) -> Result<Arc<Connection>, BusError> {
        let until = deadline.min(Instant::now() + RECONNECT_GRACE);
        match timeout_at(until, self.connection()).await {
            Ok(Ok(Some(connection))) => Ok(connection),
            Ok(Ok(None)) => Err(BusError::Unavailable { during, message: "the bus is closed".to_owned() }),
            Ok(Err(error)) => Err(error),
            Err(_) => match &*self.state.borrow() {
                State::Down(error) => Err(error.clone()),
                _ => Err(BusError::Unavailable { during, message: "not connected".to_owned() }),
            },
        }
    }
}

/// A connection with what arrives on it.
pub(super) type Opened = (Arc<Connection>, Inbox);
