//! Messages whose lease expired: their consumer crashed, or was in the same process as one that did. Each is handled alone,
//! the one with the fewest deliveries first. What crashes its consumer then has done it alone, and becomes a dead letter
//! after [`RetryPolicy::crash_limit`](larkauth_messaging::RetryPolicy::crash_limit) such crashes.

use std::{sync::Arc, time::Duration};

use larkauth_messaging::{BusError, Consume, backend::Dispatcher};
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::Engine,
    lease::{ClaimExpired, Lease, Row, next_expiry},
    settle::{PAUSE, Settler},
};

/// Longest pause between two looks for an expired lease, 1 s.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// Shortest one, 50 ms.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// The part of a consumer that handles messages alone.
pub(crate) struct Isolating<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) what: Consume,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) shutdown: &'a CancellationToken,
    /// Those of the consumer's other deliveries.
    pub(crate) permits: Arc<Semaphore>,
}

impl Isolating<'_> {
    /// Handles messages alone until the consumer stops or the bus is closed.
    pub(crate) async fn until_stopped(&self) {
        loop {
            let turn = async {
                let pause = match self.look().await {
                    Ok(None) => return self.turn().await,
                    Ok(Some(pause)) => pause,
                    Err(error) => {
                        tracing::debug!(%error, queue = %self.what.queue, "expired leases cannot be read");
                        PAUSE
                    }
                };
                sleep(pause).await;
                None
            };
            let turn = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                () = self.engine.closed.cancelled() => return,
                turn = turn => turn,
            };
            // A claimed message has begun: a stop waits for it.
            if turn.is_some()
                && let Err(error) = self.handle_one().await
            {
                tracing::debug!(%error, queue = %self.what.queue, "a message cannot be claimed");
                sleep(PAUSE).await;
            }
        }
    }

    /// Returns the pause until the next look; `None` when a lease has expired.
    async fn look(&self) -> Result<Option<Duration>, BusError> {
        let queue = self.what.queue;
        let next = self.engine.read(async |db| next_expiry(db, queue).await).await?;
        let now = self.engine.options.clock.now().timestamp_micros();
        let left = next.map_or(i64::MAX, |next| next.saturating_sub(now));
        let pause = u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_micros);
        Ok(pause.map(|pause| pause.clamp(SHORTEST_LOOK, LONGEST_LOOK)))
    }

    /// Waits until the process handles no other message alone, and no message of this queue.
    async fn turn(&self) -> Option<impl Sized + '_> {
        let alone = self.engine.notifier.alone.lock().await;
        let all = u32::from(self.what.concurrency.max(1));
        let permits = self.permits.acquire_many(all).await.ok()?;
        Some((alone, permits))
    }

    async fn handle_one(&self) -> Result<(), BusError> {
        let (queue, options) = (self.what.queue, &self.engine.options);
        let claim = ClaimExpired {
            queue,
            asked_at: options.clock.now().timestamp_micros(),
            token: self.engine.lease_token(),
            duration: options.lease,
        };
        // `None`: another process has claimed it.
        let Some((lease, row)) = self.engine.changes.make(claim).await? else { return Ok(()) };
        self.settle(lease, row).await;
        Ok(())
    }

    async fn settle(&self, lease: Lease, row: Row) {
        let (queue, crashes) = (self.what.queue, row.crashes());
        let settler = Settler { engine: Arc::clone(self.engine), lease, queue };
        if crashes >= self.dispatcher.retry.crash_limit {
            self.dispatcher.convict(row.attempt(), row.event_id(), &settler).await;
        } else {
            tracing::warn!(%queue, crashes, "a message was delivered before and is handled alone");
            self.engine.options.metrics.bus_isolated(queue.name());
            settler.dispatch(&self.dispatcher, row).await;
        }
    }
}
