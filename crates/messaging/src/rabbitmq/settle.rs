//! What becomes of a delivery once its handler has decided. Nothing is acknowledged before the next place has it.

use std::{sync::Arc, time::Duration};

use lapin::{
    Channel,
    message::Delivery as Raw,
    options::{BasicAckOptions, BasicNackOptions, BasicPublishOptions},
};
use larkauth_contracts::topology::Queue;
use tokio::time::{sleep, timeout};

use super::{
    error::describe,
    link::Link,
    session::Publication,
    topology::delay_key,
    wire::{self, Changes},
};
use crate::{ReplyAddress, Verdict};

/// Somebody who waits for an answer does not wait longer than this.
const ANSWERABLE: Duration = Duration::from_secs(2);
/// Before a delivery that cannot be passed on is given back, so that it does not spin.
const PAUSE: Duration = Duration::from_secs(1);
/// For an answer or an acknowledgement to be written to the socket.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);

/// One delivery and the way back to the broker.
pub(super) struct Settler {
    pub(super) link: Arc<Link>,
    /// Kept until the end: the delivery can be settled on its own channel only, which closes with its last owner.
    pub(super) channel: Channel,
    pub(super) queue: Queue,
    pub(super) raw: Raw,
}

impl Settler {
    /// Does what the handler decided. Returns the outcome's name for metrics.
    pub(super) async fn settle(&self, verdict: Verdict, reply_to: Option<&ReplyAddress>) -> &'static str {
        match verdict {
            Verdict::Done { reply } => {
                if let (Some(body), Some(address)) = (reply, reply_to) {
                    self.answer(address, &body).await;
                }
                self.ack().await;
                "done"
            }
            Verdict::Retry { after, reason } => self.retry(after, &reason).await,
            Verdict::Dead { reason } => {
                self.dead(&reason, "refused").await;
                "dead"
            }
        }
    }

    async fn retry(&self, after: Option<Duration>, reason: &str) -> &'static str {
        let policy = &self.link.options.retry;
        let attempt = wire::attempt(&self.raw);
        if attempt >= policy.max_attempts {
            self.dead(&format!("gave up after {attempt} attempts: {reason}"), "attempts_exhausted").await;
            return "dead";
        }
        let wait = after.unwrap_or_else(|| policy.backoff(attempt));
        let reason = wire::bounded(reason);
        tracing::warn!(%reason, wait_ms = millis(wait), "a message will be tried again");
        let changes = Changes {
            attempt: attempt + 1,
            reason: Some(&reason),
            queue: Some(self.queue),
            keep_reply_to: wait < ANSWERABLE,
            ..Changes::default()
        };
        if self.delay(wait, changes).await {
            self.link.options.metrics.bus_retried(self.queue.name());
        }
        "retry"
    }

    /// It came back from a tier and has not waited long enough.
    pub(super) async fn wait_on(&self, remaining: Duration) {
        self.delay(remaining, Changes { attempt: wire::attempt(&self.raw), ..Changes::default() }).await;
    }

    async fn delay(&self, wait: Duration, changes: Changes<'_>) -> bool {
        let tier = self.link.options.retry.tier_for(wait);
        let changes = Changes { remaining: wait.saturating_sub(tier), ..changes };
        self.pass_on(self.link.names.retry(), delay_key(tier, self.queue), &changes).await
    }

    /// Moves it to the dead letters. `kind` is the reason's name for metrics.
    pub(super) async fn dead(&self, reason: &str, kind: &'static str) {
        let reason = wire::bounded(reason);
        tracing::error!(%reason, "a message goes to the dead letters");
        let changes = Changes {
            attempt: wire::attempt(&self.raw),
            reason: Some(&reason),
            queue: Some(self.queue),
            ..Changes::default()
        };
        if self.pass_on(self.link.names.dead(), self.queue.name().to_owned(), &changes).await {
            self.link.options.metrics.bus_dead_lettered(self.queue.name(), kind);
        }
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
        match self.link.publish(copy).await {
            Ok(()) => {
                self.ack().await;
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
            let properties = wire::answer(address, &self.link.options.connection_name);
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

    async fn ack(&self) {
        let acked = timeout(WRITE_DEADLINE, self.raw.acker.ack(BasicAckOptions::default())).await;
        if !matches!(acked, Ok(Ok(true))) {
            tracing::debug!("a message could not be acknowledged; it comes again");
        }
    }
}

/// Back into the queue, for any consumer. When this fails the connection is lost, and the broker does it by itself.
pub(super) async fn give_back(raw: &Raw) {
    let options = BasicNackOptions { requeue: true, multiple: false };
    if !matches!(timeout(WRITE_DEADLINE, raw.acker.nack(options)).await, Ok(Ok(true))) {
        tracing::debug!("a message could not be given back; it comes again");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
