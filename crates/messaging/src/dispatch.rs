//! Handing a delivery to its handler and doing what the handler decides, whatever bus it came from.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use larkauth_models::{Clock, Timestamp};
use larkauth_telemetry::Metrics;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::{Consume, Delivery, Disposition, Handler, ReplyAddress, RetryPolicy};

/// Somebody who waits for an answer does not wait longer than this.
const ANSWERABLE: Duration = Duration::from_secs(2);
/// A reason is a sentence, not a document.
const MAX_REASON: usize = 500;

/// A delivery as it was read from the bus.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) delivery: Delivery,
    /// When it was published, unless it has waited on purpose since.
    pub(crate) published_at: Option<Timestamp>,
}

/// To come again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again<'a> {
    /// At the soonest.
    pub(crate) wait: Duration,
    /// As this attempt.
    pub(crate) attempt: u32,
    /// Why, in one bounded line.
    pub(crate) reason: &'a str,
    /// Whether somebody may still be waiting for an answer then.
    pub(crate) answerable: bool,
}

/// The way one delivery goes back to its bus. Where it cannot be settled, it comes again by itself.
pub(crate) trait Settle: Sync {
    /// Answers, if somebody asked, and takes it off the queue.
    fn done(&self, answer: Option<(&ReplyAddress, Bytes)>) -> impl Future<Output = ()> + Send;
    /// `false` when that could not be done.
    fn retry(&self, again: Again<'_>) -> impl Future<Output = bool> + Send;
    /// Moves it to the dead letters. `false` when that could not be done.
    fn dead(&self, attempt: u32, reason: &str) -> impl Future<Output = bool> + Send;
}

/// What all deliveries of one consumer have in common.
pub(crate) struct Dispatcher {
    pub(crate) what: Consume,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) retry: RetryPolicy,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Dispatcher {
    /// Sees one delivery through: handled, and settled. One that could not be read is dead, for the reason given.
    pub(crate) async fn run(&self, attempt: u32, incoming: Result<Incoming, String>, settler: &impl Settle) {
        let queue = self.what.queue;
        let span = tracing::info_span!(
            "bus.handle",
            otel.name = %format_args!("bus.{queue}.handle"),
            otel.kind = "consumer",
            %queue,
            message_id = tracing::field::Empty,
            attempt,
        );
        // Boxed: a bus's futures are large, and every caller would carry them.
        match incoming {
            Ok(incoming) => {
                larkauth_telemetry::propagation::set_parent(&span, &incoming.delivery.headers);
                span.record("message_id", incoming.delivery.id.as_str());
                Box::pin(self.handle(incoming, settler).instrument(span)).await;
            }
            Err(reason) => Box::pin(self.dead(attempt, &reason, "malformed", settler).instrument(span)).await,
        }
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
        let outcome = match disposition {
            Disposition::Done { reply } => {
                settler.done(reply_to.as_ref().zip(reply)).await;
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
                let again = Again {
                    wait,
                    attempt: attempt.saturating_add(1),
                    reason: &reason,
                    answerable: wait < ANSWERABLE,
                };
                if settler.retry(again).await {
                    self.metrics.bus_retried(queue);
                }
                "retry"
            }
            Disposition::Dead { reason } => {
                self.dead(attempt, &reason, "refused", settler).await;
                "dead"
            }
        };
        self.metrics.bus_consumed(queue, outcome, took);
    }

    async fn decide(&self, delivery: Delivery) -> Disposition {
        let deadline = self.what.handler_deadline;
        // A handler holds no state across deliveries that a panic could leave half changed: it must be idempotent anyway.
        match timeout(deadline, AssertUnwindSafe(self.handler.handle(delivery)).catch_unwind()).await {
            Ok(Ok(disposition)) => disposition,
            // What a panic says may hold a value; the panic hook has logged where it was.
            Ok(Err(_)) => Disposition::Retry { after: None, reason: "the handler panicked".to_owned() },
            Err(_) => Disposition::Retry {
                after: None,
                reason: format!("the handler took longer than {deadline:?}"),
            },
        }
    }

    /// `kind` is the reason's name for metrics.
    async fn dead(&self, attempt: u32, reason: &str, kind: &'static str, settler: &impl Settle) {
        let reason = bounded(reason);
        tracing::error!(%reason, "a message goes to the dead letters");
        if settler.dead(attempt, &reason).await {
            self.metrics.bus_dead_lettered(self.what.queue.name(), kind);
        }
    }
}

/// One line of bounded length.
fn bounded(reason: &str) -> String {
    reason.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_bounded_line() {
        assert_eq!(bounded("down\nline"), "down line");
        assert_eq!(bounded(&"é".repeat(1000)).chars().count(), MAX_REASON);
    }
}
