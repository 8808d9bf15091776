//! Settling a delivery by its disposition. It is acknowledged only after the broker has confirmed the copy in the next
//! queue.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{
    Channel,
    message::Delivery as Raw,
    options::{BasicAckOptions, BasicNackOptions},
};
use larkauth_contracts::topology::Queue;
use tokio::time::{sleep, timeout};

use super::{
    connection::Publication,
    connection_manager::ConnectionManager,
    topology::{Lane, delay_key},
    wire::{self, Changes},
};
use crate::{
    ReplyAddress,
    backend::{NextAttempt, Settle},
};

/// Wait before a delivery that cannot be forwarded is returned to its queue, 1 s, so that it does not loop.
const PAUSE: Duration = Duration::from_secs(1);
/// Deadline for writing an acknowledgement to the socket, 2 s.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// One delivery, and the channel that it is acknowledged on.
pub(super) struct Settler {
    pub(super) manager: Arc<ConnectionManager>,
    /// Kept until the delivery is settled: only its own channel can acknowledge it, and it closes with its last owner.
    #[expect(dead_code, reason = "held, not used")]
    pub(super) channel: Channel,
    pub(super) queue: Queue,
    pub(super) raw: Raw,
}

impl Settle for Settler {
    async fn reply(&self, address: &ReplyAddress, body: Bytes) {
        if let Err(error) = self.manager.reply(address, &body).await {
            tracing::debug!(%error, "a reply could not be sent");
        }
    }

    async fn done(&self) {
        ack(&self.raw).await;
    }

    async fn retry(&self, next: NextAttempt<'_>) -> bool {
        let changes = Changes {
            attempt: next.attempt,
            reason: Some(next.reason),
            queue: Some(self.queue),
            keep_reply_to: next.keeps_reply_to,
            ..Changes::default()
        };
        self.delay(next.wait, changes).await
    }

    async fn dead(&self, attempt: u32, reason: &str) -> bool {
        let changes = Changes {
            attempt,
            reason: Some(reason),
            queue: Some(self.queue),
            died_at: Some(self.manager.options.clock.now()),
            ..Changes::default()
        };
        self.forward(self.manager.names.dead(), self.queue.name().to_owned(), &changes).await
    }
}

impl Settler {
    /// Delays it again: its wait is longer than the tier that it came from.
    pub(super) async fn wait_further(&self, remaining: Duration) {
        self.delay(remaining, Changes { attempt: wire::attempt(&self.raw), ..Changes::default() }).await;
    }

    /// Moves it to the isolated queue, where it is handled alone.
    pub(super) async fn isolate(&self) {
        tracing::info!(queue = %self.queue, "a message was delivered before and is handled alone");
        if self.to_isolated(0).await {
            self.manager.options.metrics.bus_isolated(self.queue.name());
        }
    }

    /// Returns it to the end of the isolated queue: it was not begun.
    pub(super) async fn give_back(&self) {
        self.to_isolated(wire::crashes(&self.raw)).await;
    }

    /// Returns it to the end of the isolated queue after a wait: its consumer crashed while it was handled alone.
    pub(super) async fn suspect(&self, crashes: u32) {
        tracing::warn!(queue = %self.queue, crashes, "a consumer crashed while it handled this message alone");
        let wait = self.manager.options.retry.backoff(crashes);
        let tier = self.manager.options.retry.tier_for(wait);
        let attempt = wire::attempt(&self.raw);
        let changes = Changes { attempt, crashes: Some(crashes), ..Changes::default() };
        self.forward(self.manager.names.retry(), delay_key(tier, self.queue, Lane::Isolated), &changes).await;
    }

    async fn to_isolated(&self, crashes: u32) -> bool {
        let attempt = wire::attempt(&self.raw);
        let changes = Changes { attempt, crashes: Some(crashes), keep_reply_to: true, ..Changes::default() };
        // The default exchange routes to the queue of that name only.
        self.forward(String::new(), self.manager.names.isolated(self.queue), &changes).await
    }

    async fn delay(&self, wait: Duration, changes: Changes<'_>) -> bool {
        let tier = self.manager.options.retry.tier_for(wait);
        let changes = Changes { remaining: wait.saturating_sub(tier), ..changes };
        self.forward(self.manager.names.retry(), delay_key(tier, self.queue, Lane::Shared), &changes).await
    }

    /// Publishes a copy and acknowledges the delivery after the confirm. A crash in between duplicates the message and never
    /// loses it. `false` when there is no copy: the broker delivers the message again.
    async fn forward(&self, exchange: String, routing_key: String, changes: &Changes<'_>) -> bool {
        if !self.raw.acker.usable() {
            tracing::debug!("the connection was lost; the broker delivers the message again");
            return false;
        }
        let copy = Publication {
            exchange,
            routing_key,
            properties: wire::copy(&self.raw, changes),
            body: self.raw.data.clone().into(),
        };
        match self.manager.publish_copy(&copy, || self.raw.acker.usable()).await {
            Ok(()) => {
                ack(&self.raw).await;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a message cannot be forwarded and is returned to its queue");
                sleep(PAUSE).await;
                requeue(&self.raw).await;
                false
            }
        }
    }
}

/// Acknowledges a delivery. `false` when it could not.
pub(super) async fn ack(raw: &Raw) -> bool {
    let acked =
        matches!(timeout(WRITE_DEADLINE, raw.acker.ack(BasicAckOptions::default())).await, Ok(Ok(true)));
    if !acked {
        tracing::debug!("a message could not be acknowledged; the broker delivers it again");
    }
    acked
}

/// Returns a delivery to its queue, for any consumer. On failure the connection is lost, and the broker returns it.
pub(super) async fn requeue(raw: &Raw) {
    let options = BasicNackOptions { requeue: true, multiple: false };
    if !matches!(timeout(WRITE_DEADLINE, raw.acker.nack(options)).await, Ok(Ok(true))) {
        tracing::debug!("a message could not be returned to its queue; the broker delivers it again");
    }
}
