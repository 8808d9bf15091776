//! Passes a delivery to its handler and settles it by the handler's disposition, for every bus alike.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use larkauth_models::{Clock, Timestamp};
use larkauth_telemetry::Metrics;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::CRASHED;
use crate::{Consume, Delivery, Disposition, Handler, ReplyAddress, RetryPolicy};

/// Longest wait of a caller for a reply, 2 s; a delivery that is retried later keeps no reply address.
const REPLY_WAIT: Duration = Duration::from_secs(2);
/// Longest reason, in characters: one sentence.
const MAX_REASON: usize = 500;

/// A delivery as it was read from the bus.
#[derive(Debug)]
pub struct Incoming {
    /// The delivery.
    pub delivery: Delivery,
    /// Time of publishing; `None` after a deliberate delay, which does not count as lag.
    pub published_at: Option<Timestamp>,
}

/// The next attempt of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct NextAttempt<'a> {
    /// Shortest wait before it.
    pub wait: Duration,
    /// Its number, from 1.
    pub attempt: u32,
    /// Reason of the retry, one bounded line.
    pub reason: &'a str,
    /// Whether the caller may still await a reply then.
    pub keeps_reply_to: bool,
}

/// Settles one delivery on its bus. A delivery that cannot be settled is delivered again by the bus.
pub trait Settle: Sync {
    /// Sends a reply. A lost reply does no harm.
    fn reply(&self, address: &ReplyAddress, body: Bytes) -> impl Future<Output = ()> + Send;
    /// Removes the message from its queue.
    fn done(&self) -> impl Future<Output = ()> + Send;
    /// Schedules the next attempt. `false` when that failed.
    fn retry(&self, next: NextAttempt<'_>) -> impl Future<Output = bool> + Send;
    /// Moves it to the dead letters. `false` when that failed.
    fn dead(&self, attempt: u32, reason: &str) -> impl Future<Output = bool> + Send;
}

/// State shared by all deliveries of one consumer.
pub struct Dispatcher {
    /// The queue, and the deadline of the handler.
    pub what: Consume,
    /// The handler.
    pub handler: Arc<dyn Handler>,
    /// Delays and the number of attempts.
    pub retry: RetryPolicy,
    /// Counts dispositions and lag.
    pub metrics: Metrics,
    /// For the lag.
    pub clock: Arc<dyn Clock>,
}

impl Dispatcher {
    /// Handles and settles one delivery. A delivery that could not be read is a dead letter with the given reason.
    pub async fn run(&self, attempt: u32, incoming: Result<Incoming, String>, settler: &impl Settle) {
        let queue = self.what.queue;
        let span = tracing::info_span!(
            "bus.handle",
            otel.name = %format_args!("bus.{queue}.handle"),
            otel.kind = "consumer",
            %queue,
            message_id = tracing::field::Empty,
            attempt,
        );
        // Boxed: the futures of a bus are large and would be part of every caller's.
        match incoming {
            Ok(incoming) => {
                larkauth_telemetry::propagation::set_parent(&span, &incoming.delivery.headers);
                span.record("message_id", incoming.delivery.id.as_str());
                Box::pin(self.handle(incoming, settler).instrument(span)).await;
            }
            Err(reason) => Box::pin(self.dead(attempt, &reason, "malformed", settler).instrument(span)).await,
        }
    }

    /// Moves a delivery to the dead letters whose consumers crashed too often while they handled it alone.
    pub async fn convict(&self, attempt: u32, message_id: &str, settler: &impl Settle) {
        let queue = self.what.queue;
        let span = tracing::info_span!("bus.convict", %queue, message_id, attempt);
        Box::pin(self.dead(attempt, CRASHED, "crashes", settler).instrument(span)).await;
    }

    async fn handle(&self, incoming: Incoming, settler: &impl Settle) {
        let Incoming { delivery, published_at } = incoming;
        let (queue, attempt) = (self.what.queue.name(), delivery.attempt);
        if let Some(published_at) = published_at {
            let lag = (self.clock.now() - published_at).to_std().unwrap_or_default();
            self.metrics.bus_lag(queue, lag);
        }
        let started = Instant::now();
        let reply_to = delivery.reply_to.clone();
        let disposition = self.decide(delivery).await;
        let took = started.elapsed();
        let reply = async |body: Option<Bytes>| {
            if let Some((address, body)) = reply_to.as_ref().zip(body) {
                settler.reply(address, body).await;
            }
        };
        let outcome = match disposition {
            Disposition::Done { reply: body } => {
                reply(body).await;
                settler.done().await;
                "done"
            }
            Disposition::Retry { reason, .. } if attempt >= self.retry.max_attempts => {
                let reason = format!("gave up after {attempt} attempts: {reason}");
                self.dead(attempt, &reason, "attempts_exhausted", settler).await;
                "dead"
            }
            Disposition::Retry { after, reason } => {
                let wait = after.unwrap_or_else(|| self.retry.backoff(attempt));
                let reason = bounded(&reason);
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(%reason, wait_ms, "a message will be tried again");
                let next = NextAttempt {
                    wait,
                    attempt: attempt.saturating_add(1),
                    reason: &reason,
                    keeps_reply_to: wait < REPLY_WAIT,
                };
                if settler.retry(next).await {
                    self.metrics.bus_retried(queue);
                }
                "retry"
            }
            Disposition::Dead { reason, reply: body } => {
                reply(body).await;
                self.dead(attempt, &reason, "refused", settler).await;
                "dead"
            }
        };
        self.metrics.bus_consumed(queue, outcome, took);
    }

    async fn decide(&self, delivery: Delivery) -> Disposition {
        let deadline = self.what.handler_deadline;
        // Unwind safe: handlers are idempotent, so a panic leaves no state that the next delivery depends on.
        match timeout(deadline, AssertUnwindSafe(self.handler.handle(delivery)).catch_unwind()).await {
            Ok(Ok(disposition)) => disposition,
            // The message of a panic may contain a secret; the panic hook has logged its location.
            Ok(Err(_)) => Disposition::Retry { after: None, reason: "the handler panicked".to_owned() },
            Err(_) => Disposition::Retry {
                after: None,
                reason: format!("the handler took longer than {deadline:?}"),
            },
        }
    }

    /// Moves it to the dead letters. `kind` names the reason in metrics.
    async fn dead(&self, attempt: u32, reason: &str, kind: &'static str, settler: &impl Settle) {
        let reason = bounded(reason);
        tracing::error!(%reason, "a message goes to the dead letters");
        if settler.dead(attempt, &reason).await {
            self.metrics.bus_dead_lettered(self.what.queue.name(), kind);
        }
    }
}

/// Returns the reason as one line of bounded length.
fn bounded(reason: &str) -> String {
    larkauth_models::text::one_line(reason, MAX_REASON - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_of_long_or_broken_text_is_one_short_line() {
        assert_eq!(bounded("down\nline"), "down line");
        assert_eq!(bounded(&"é".repeat(1000)).chars().count(), MAX_REASON);
    }
}
