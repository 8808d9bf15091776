//! Settling a delivery under its lease.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    BusError, ReplyAddress,
    backend::{Dispatcher, NextAttempt, Settle},
};
use tokio::time::sleep;

use crate::{
    engine::Engine,
    lease::{Done, Lease, Reject, Renew, Retry, Row},
};

/// Wait after the file could not be written, 1 s.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// One delivery, and the lease of its row.
pub(crate) struct Settler {
    pub(crate) engine: Arc<Engine>,
    pub(crate) lease: Lease,
    pub(crate) queue: Queue,
}

impl Settler {
    /// Handles the delivery, and renews its lease meanwhile.
    pub(crate) async fn dispatch(&self, dispatcher: &Dispatcher, row: Row) {
        tokio::select! {
            () = dispatcher.run(row.attempt(), row.read(), self) => {}
            never = self.renew() => match never {},
        }
    }

    /// Renews the lease as long as it is polled.
    async fn renew(&self) -> Infallible {
        let duration = self.engine.options.lease;
        loop {
            sleep(duration / 3).await;
            // A failed renewal is followed by another one before the lease expires.
            let _ = self.engine.changes.make(Renew { lease: self.lease, duration }).await;
        }
    }

    fn settled(result: Result<bool, BusError>) -> bool {
        match result {
            Ok(true) => true,
            Ok(false) => {
                tracing::debug!("the lease of a message had expired when it was settled");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "a message could not be settled; it is delivered again");
                false
            }
        }
    }
}

impl Settle for Settler {
    async fn reply(&self, address: &ReplyAddress, body: Bytes) {
        self.engine.notifier.reply(address, body);
    }

    async fn done(&self) {
        Self::settled(self.engine.changes.make(Done(self.lease)).await);
    }

    async fn retry(&self, next: NextAttempt<'_>) -> bool {
        let shortest = self.engine.options.retry.tiers().first().copied().unwrap_or(PAUSE);
        let change = Retry {
            lease: self.lease,
            queue: self.queue,
            attempt: next.attempt,
            wait: next.wait.max(shortest),
            keeps_reply_to: next.keeps_reply_to,
        };
        Self::settled(self.engine.changes.make(change).await)
    }

    async fn dead(&self, _: u32, reason: &str) -> bool {
        let change = Reject {
            lease: self.lease,
            queue: self.queue,
            reason: reason.to_owned(),
            capacity: self.engine.options.capacity(),
        };
        Self::settled(self.engine.changes.make(change).await)
    }
}
