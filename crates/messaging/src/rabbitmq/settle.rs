//! Settling a delivery by its disposition. It is acknowledged only after the broker has confirmed the copy in the next
//! queue.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{
    Channel,
    message::Delivery as Raw,
    options::{BasicAckOptions, BasicNackOptions, BasicPublishOptions},
};
use larkauth_contracts::topology::Queue;
use tokio::time::{sleep, timeout};

use super::{
    connection::Publication,
    connection_manager::ConnectionManager,
    error::describe,
    topology::delay_key,
    wire::{self, Changes},
};
use crate::{
    ReplyAddress,
    backend::{NextAttempt, Settle},
};

/// Wait before a delivery that cannot be forwarded is returned to its queue, 1 s, so that it does not loop.
const PAUSE: Duration = Duration::from_secs(1);
/// Deadline for writing a reply or an acknowledgement to the socket, 2 s.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// One delivery, and the channel that it is acknowledged on.
pub(super) struct Settler {
    pub(super) manager: Arc<ConnectionManager>,
    /// Kept until the delivery is settled: only its own channel can acknowledge it, and it closes with its last owner.
    pub(super) channel: Channel,
    pub(super) queue: Queue,
    pub(super) raw: Raw,
}

impl Settle for Settler {
    async fn reply(&self, address: &ReplyAddress, body: Bytes) {
        let sending = async {
            let properties = wire::reply(address, &self.manager.options.connection_name);
            let options = BasicPublishOptions::default();
            self.channel
                .basic_publish("".into(), address.reply_to.as_str().into(), options, &body, properties)
                .await?
                .await
        };
        match timeout(WRITE_DEADLINE, Box::pin(sending)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(error = %describe(&error), "a reply could not be sent"),
            Err(_) => tracing::debug!("a reply could not be sent in time"),
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

    async fn delay(&self, wait: Duration, changes: Changes<'_>) -> bool {
        let tier = self.manager.options.retry.tier_for(wait);
        let changes = Changes { remaining: wait.saturating_sub(tier), ..changes };
        self.forward(self.manager.names.retry(), delay_key(tier, self.queue), &changes).await
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
        match self.manager.publish(copy).await {
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
