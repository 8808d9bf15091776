//! The task that replaces a connection when it is lost.

use std::{sync::Arc, time::Duration};

use larkauth_models::Backoff;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    connection::Connection,
    connection_manager::ConnectionManager,
    dial::{OpenError, Role},
    link::{JITTER, LONGEST_WAIT, Opened, STARTING, State},
};
use crate::BusError;

/// Waits after a lost connection.
const RECONNECTING: Backoff = Backoff::new(Duration::from_secs(1), LONGEST_WAIT, JITTER);

/// Owns the connection of a role: opens it, replaces a lost one, and closes it on `stop`.
pub(super) struct Supervisor {
    pub(super) manager: Arc<ConnectionManager>,
    pub(super) role: Role,
    /// `None` before the first connection.
    pub(super) opened: Option<Opened>,
}

impl Supervisor {
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { manager, role, opened } = self;
        let first = match opened {
            Some(opened) => Some(opened),
            None => {
                open_repeatedly(&manager, role, &stop, &mut STARTING.clone(), &mut 0, Duration::ZERO).await
            }
        };
        let Some((mut connection, mut inbox)) = first else { return };
        let mut backoff = RECONNECTING;
        let mut attempt = 0_u32;
        loop {
            let since = Instant::now();
            let lost = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    manager.set(role, State::Closed);
                    connection.close().await;
                    return;
                }
                reason = connection.run(inbox, || manager.refresh()) => reason,
            };
            connection.fail(lost.clone());
            tracing::warn!(reason = %lost, connection = role.name(), "the message broker is disconnected");
            manager
                .set(role, State::Down(BusError::Unavailable { during: "connection lost", message: lost }));
            // Only a stable connection resets the backoff.
            if since.elapsed() > LONGEST_WAIT {
                backoff.reset();
                attempt = 0;
            }
            let pause = backoff.next(manager.options.entropy.as_ref());
            let opened = open_repeatedly(&manager, role, &stop, &mut backoff, &mut attempt, pause).await;
            let Some(opened) = opened else { return };
            (connection, inbox) = opened;
        }
    }
}

/// Opens a connection after `pause`, and again after longer waits until it succeeds. Returns `None` on `stop`.
async fn open_repeatedly(
    manager: &ConnectionManager,
    role: Role,
    stop: &CancellationToken,
    backoff: &mut Backoff,
    attempt: &mut u32,
    mut pause: Duration,
) -> Option<Opened> {
    loop {
        let opening = async {
            sleep(pause).await;
            Connection::open(&manager.options, &manager.names, role).await
        };
        *attempt = attempt.saturating_add(1);
        let Some(opened) = stop.run_until_cancelled(opening).await else {
            manager.set(role, State::Closed);
            return None;
        };
        match opened {
            Ok((connection, inbox)) => {
                tracing::info!(attempt, connection = role.name(), "the message broker is connected");
                manager.set(role, State::Up(Arc::clone(&connection)));
                return Some((connection, inbox));
            }
            Err(OpenError { error, .. }) => {
                tracing::warn!(%error, attempt, connection = role.name(), "the message broker cannot be reached");
                manager.set(role, State::Down(error));
                pause = backoff.next(manager.options.entropy.as_ref());
            }
        }
    }
}
