//! Consuming a queue with bounded concurrency: each delivery has a lease, renewed while its handler runs. A message whose
//! lease expired is handled alone (`isolate.rs`).

use std::{pin::pin, sync::Arc, time::Duration};

use larkauth_messaging::{Consume, Handler, backend::Dispatcher};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::Engine,
    isolate,
    lease::{Claim, Lease, Release, Row},
    settle::{PAUSE, Settler},
};

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
    let isolating = isolate::Isolating {
        engine,
        what,
        dispatcher: Arc::clone(&consuming.dispatcher),
        shutdown,
        permits: Arc::clone(&consuming.permits),
    };
    tokio::join!(consuming.claim_until_stopped(), isolating.until_stopped());
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
        Claim {
            queue: self.what.queue,
            asked_at: options.clock.now().timestamp_micros(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            token: self.engine.lease_token(),
            duration: options.lease,
        }
    }

    fn start(&mut self, lease: Lease, row: Row, permit: OwnedSemaphorePermit) {
        let settler = Settler { engine: Arc::clone(self.engine), lease, queue: self.what.queue };
        let dispatcher = Arc::clone(&self.dispatcher);
        self.running.spawn(async move {
            settler.dispatch(&dispatcher, row).await;
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
