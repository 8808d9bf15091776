//! Consuming a queue with bounded concurrency: each delivery has a lease, renewed while its handler runs.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    BusError, Consume, Handler, ReplyAddress,
    backend::{Dispatcher, NextAttempt, Settle},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::Engine,
    lease::{Claim, Done, Lease, Reject, Release, Renew, Retry, Row},
};

/// Wait after the file could not be written, 1 s.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for a due time, 60 s, since the system clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Consumes until `shutdown` or until the bus is closed, then waits for the running handlers.
pub(crate) async fn run(
    engine: &Arc<Engine>,
    what: Consume,
    handler: Arc<dyn Handler>,
    shutdown: &CancellationToken,
) {
    let options = &engine.options;
    let mut consuming = Consuming {
        engine,
        what,
        dispatcher: Arc::new(Dispatcher {
            what,
            handler,
            retry: options.retry.clone(),
            metrics: options.metrics.clone(),
            clock: Arc::clone(&options.clock),
        }),
        shutdown,
        permits: Arc::new(Semaphore::new(what.concurrency.max(1).into())),
        running: JoinSet::new(),
    };
    consuming.claim_until_stopped().await;
    while consuming.running.join_next().await.is_some() {}
}

struct Consuming<'a> {
    engine: &'a Arc<Engine>,
    what: Consume,
    dispatcher: Arc<Dispatcher>,
    shutdown: &'a CancellationToken,
    permits: Arc<Semaphore>,
    /// Dropped with the future of [`run`]: a hard stop aborts the handlers, and their leases expire.
    running: JoinSet<()>,
}

impl Consuming<'_> {
    async fn claim_until_stopped(&mut self) {
        let (engine, queue) = (self.engine, self.what.queue);
        let (shutdown, closed) = (self.shutdown.clone(), engine.closed.clone());
        let mut stopped = pin!(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = closed.cancelled() => {}
            }
        });
        let mut changes = engine.notifier.changes(queue);
        loop {
            while self.running.try_join_next().is_some() {}
            let mut permits = tokio::select! {
                biased;
                () = &mut stopped => return,
                permit = Arc::clone(&self.permits).acquire_owned() => permit.into_iter().collect::<Vec<_>>(),
            };
            while let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                permits.push(permit);
            }
            // A change from here on wakes the wait below.
            changes.borrow_and_update();
            // The claim is not cancelled: messages that it claims would be delivered only after the lease expires.
            let pause = match engine.changes.make(self.claim(permits.len())).await {
                Ok(claimed) => {
                    if self.shutdown.is_cancelled() || engine.closed.is_cancelled() {
                        let leases = claimed.messages.into_iter().map(|(lease, _)| lease).collect();
                        self.release(leases).await;
                        return;
                    }
                    let more = claimed.messages.len() == permits.len();
                    for ((lease, row), permit) in claimed.messages.into_iter().zip(permits) {
                        self.start(lease, row, permit);
                    }
                    if more {
                        continue;
                    }
                    claimed.next_in.map_or(LONGEST_SLEEP, |next| next.min(LONGEST_SLEEP))
                }
                Err(error) => {
                    tracing::debug!(%error, %queue, "messages cannot be claimed");
                    PAUSE
                }
            };
            tokio::select! {
                biased;
                () = &mut stopped => return,
                _ = changes.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    fn claim(&self, limit: usize) -> Claim {
        let options = &self.engine.options;
        let mut token = [0; 8];
        options.entropy.fill(&mut token);
        Claim {
            queue: self.what.queue,
            asked_at: options.clock.now().timestamp_micros(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            token: i64::from_le_bytes(token),
            duration: options.lease,
            delivery_limit: options.retry.delivery_limit,
        }
    }

    fn start(&mut self, lease: Lease, row: Row, permit: OwnedSemaphorePermit) {
        let settler = Settler { engine: Arc::clone(self.engine), lease, queue: self.what.queue };
        let dispatcher = Arc::clone(&self.dispatcher);
        self.running.spawn(async move {
            tokio::select! {
                () = dispatcher.run(row.attempt(), row.read(), &settler) => {}
                never = settler.renew() => match never {},
            }
            drop(permit);
        });
    }

    async fn release(&self, leases: Vec<Lease>) {
        if leases.is_empty() {
            return;
        }
        let change = Release { queue: self.what.queue, leases };
        if let Err(error) = self.engine.changes.make(change).await {
            tracing::debug!(%error, "messages could not be released; they are delivered again when their leases expire");
        }
    }
}

/// One delivery, and the lease of its row.
struct Settler {
    engine: Arc<Engine>,
    lease: Lease,
    queue: Queue,
}

impl Settler {
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
            max_length: self.engine.options.max_length,
        };
        Self::settled(self.engine.changes.make(change).await)
    }
}
