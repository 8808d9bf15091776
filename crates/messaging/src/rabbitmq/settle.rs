//! What becomes of a delivery once its handler has decided. Nothing is acknowledged before the next place has it.

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
    dispatch::{Again, Settle},
};

/// Before a delivery that cannot be passed on is given back, so that it does not spin.
const PAUSE: Duration = Duration::from_secs(1);
/// For an answer or an acknowledgement to be written to the socket.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// One delivery and the way back to the broker.
pub(super) struct Settler {
    pub(super) manager: Arc<ConnectionManager>,
    /// Kept until the end: the delivery can be settled on its own channel only, which closes with its last owner.
    pub(super) channel: Channel,
    pub(super) queue: Queue,
    pub(super) raw: Raw,
}

impl Settle for Settler {
    async fn done(&self, answer: Option<(&ReplyAddress, Bytes)>) {
        if let Some((address, body)) = answer {
            self.answer(address, &body).await;
        }
        ack(&self.raw).await;
    }

    async fn retry(&self, again: Again<'_>) -> bool {
        let changes = Changes {
            attempt: again.attempt,
            reason: Some(again.reason),
            queue: Some(self.queue),
            keep_reply_to: again.answerable,
            ..Changes::default()
        };
        self.delay(again.wait, changes).await
    }

    async fn dead(&self, attempt: u32, reason: &str) -> bool {
        let changes = Changes {
            attempt,
            reason: Some(reason),
            queue: Some(self.queue),
            died_at: Some(self.manager.options.clock.now()),
            ..Changes::default()
        };
        self.pass_on(self.manager.names.dead(), self.queue.name().to_owned(), &changes).await
    }
}

impl Settler {
    /// It came back from a tier and has not waited long enough.
    pub(super) async fn wait_on(&self, remaining: Duration) {
        self.delay(remaining, Changes { attempt: wire::attempt(&self.raw), ..Changes::default() }).await;
    }

    async fn delay(&self, wait: Duration, changes: Changes<'_>) -> bool {
        let tier = self.manager.options.retry.tier_for(wait);
        let changes = Changes { remaining: wait.saturating_sub(tier), ..changes };
        self.pass_on(self.manager.names.retry(), delay_key(tier, self.queue), &changes).await
    }

    /// Publishes a copy, and acknowledges only once the broker has it. In between a crash makes two of one, never none.
    /// `false` when there is no copy: the message comes again as it is.
    async fn pass_on(&self, exchange: String, routing_key: String, changes: &Changes<'_>) -> bool {
        if !self.raw.acker.usable() {
            tracing::debug!("the connection was lost meanwhile; the message comes again by itself");
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
                tracing::warn!(%error, "a message cannot be passed on and is given back");
                sleep(PAUSE).await;
                give_back(&self.raw).await;
                false
            }
        }
    }

    async fn answer(&self, address: &ReplyAddress, body: &[u8]) {
        let sending = async {
            let properties = wire::answer(address, &self.manager.options.connection_name);
            let options = BasicPublishOptions::default();
            self.channel
                .basic_publish("".into(), address.reply_to.as_str().into(), options, body, properties)
                .await?
                .await
        };
        match timeout(WRITE_DEADLINE, Box::pin(sending)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(error = %describe(&error), "an answer could not be sent"),
            Err(_) => tracing::debug!("an answer could not be sent in time"),
        }
    }
}

/// Off the queue.
pub(super) async fn ack(raw: &Raw) -> bool {
    let acked =
        matches!(timeout(WRITE_DEADLINE, raw.acker.ack(BasicAckOptions::default())).await, Ok(Ok(true)));
    if !acked {
        tracing::debug!("a message could not be acknowledged; it comes again");
    }
    acked
}

/// Back into the queue, for any consumer. When this fails the connection is lost, and the broker does it by itself.
pub(super) async fn give_back(raw: &Raw) {
    let options = BasicNackOptions { requeue: true, multiple: false };
    if !matches!(timeout(WRITE_DEADLINE, raw.acker.nack(options)).await, Ok(Ok(true))) {
        tracing::debug!("a message could not be given back; it comes again");
    }
}
