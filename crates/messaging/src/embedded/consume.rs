//! Consuming a queue: as many in hand as allowed, each under a lease that is renewed while it is.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use larkauth_contracts::topology::Queue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    Engine,
    lease::{Claim, Die, Done, GiveBack, Hold, Renew, Retry, Row},
};
use crate::{
    BusError, Consume, Handler, ReplyAddress,
    dispatch::{Again, Dispatcher, Settle},
};

/// After the file could not be written to.
const PAUSE: Duration = Duration::from_secs(1);
/// The clock may be set meanwhile, so no wait for it is longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Consumes until `shutdown` (or until the bus is closed), then waits for what is in hand.
pub(super) async fn run(
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
        in_hand: JoinSet::new(),
    };
    consuming.take_until_stopped().await;
    while consuming.in_hand.join_next().await.is_some() {}
}

struct Consuming<'a> {
    engine: &'a Arc<Engine>,
    what: Consume,
    dispatcher: Arc<Dispatcher>,
    shutdown: &'a CancellationToken,
    permits: Arc<Semaphore>,
    /// Dropped with the future of [`run`]: a hard stop aborts the handlers, and their leases run out.
    in_hand: JoinSet<()>,
}

impl Consuming<'_> {
    async fn take_until_stopped(&mut self) {
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
            while self.in_hand.try_join_next().is_some() {}
            let mut permits = tokio::select! {
                biased;
                () = &mut stopped => return,
                permit = Arc::clone(&self.permits).acquire_owned() => permit.into_iter().collect::<Vec<_>>(),
            };
            while let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                permits.push(permit);
            }
            // What changes from here on is worth another look.
            changes.borrow_and_update();
            // Not given up half way: what it hands out would be in nobody's hand until the lease ends.
            let pause = match engine.changes.make(self.claim(permits.len())).await {
                Ok(claimed) => {
                    if self.shutdown.is_cancelled() || engine.closed.is_cancelled() {
                        let holds = claimed.messages.into_iter().map(|(hold, _)| hold).collect();
                        self.give_back(holds).await;
                        return;
                    }
                    let more = claimed.messages.len() == permits.len();
                    for ((hold, row), permit) in claimed.messages.into_iter().zip(permits) {
                        self.take(hold, row, permit);
                    }
                    if more {
                        continue;
                    }
                    claimed.next_in.map_or(LONGEST_SLEEP, |next| next.min(LONGEST_SLEEP))
                }
                Err(error) => {
                    tracing::debug!(%error, %queue, "nothing can be consumed");
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

    fn claim(&self, most: usize) -> Claim {
        let options = &self.engine.options;
        let mut lease = [0; 8];
        options.entropy.fill(&mut lease);
        Claim {
            queue: self.what.queue,
            asked_at: options.clock.now().timestamp_micros(),
            most: u32::try_from(most).unwrap_or(u32::MAX),
            lease: i64::from_le_bytes(lease),
            lease_lasts: options.lease,
            delivery_limit: options.retry.delivery_limit,
        }
    }

    fn take(&mut self, hold: Hold, row: Row, permit: OwnedSemaphorePermit) {
        let settler = Settler { engine: Arc::clone(self.engine), hold, queue: self.what.queue };
        let dispatcher = Arc::clone(&self.dispatcher);
        self.in_hand.spawn(async move {
            tokio::select! {
                () = dispatcher.run(row.attempt(), row.read(), &settler) => {}
                never = settler.keep() => match never {},
            }
            drop(permit);
        });
    }

    async fn give_back(&self, holds: Vec<Hold>) {
        if holds.is_empty() {
            return;
        }
        let change = GiveBack { queue: self.what.queue, holds };
        if let Err(error) = self.engine.changes.make(change).await {
            tracing::debug!(%error, "messages could not be given back; they come again when their leases end");
        }
    }
}

/// One delivery and the way back to its row.
struct Settler {
    engine: Arc<Engine>,
    hold: Hold,
    queue: Queue,
}

impl Settler {
    /// Renews the lease as long as it is polled.
    async fn keep(&self) -> Infallible {
        let lease_lasts = self.engine.options.lease;
        loop {
            sleep(lease_lasts / 3).await;
            // One that fails is followed by another before the lease ends.
            let _ = self.engine.changes.make(Renew { hold: self.hold, lease_lasts }).await;
        }
    }

    fn settled(result: Result<bool, BusError>) -> bool {
        match result {
            Ok(true) => true,
            Ok(false) => {
                tracing::debug!("a message was not in hand any more when it was settled");
                false
            }
            Err(error) => {
                tracing::warn!(%error, "a message could not be settled; it comes again");
                false
            }
        }
    }
}

impl Settle for Settler {
    async fn done(&self, answer: Option<(&ReplyAddress, Bytes)>) {
        if let Some((address, body)) = answer {
            self.engine.notifier.answer(address, body);
        }
        Self::settled(self.engine.changes.make(Done(self.hold)).await);
    }

    async fn retry(&self, again: Again<'_>) -> bool {
        let shortest = self.engine.options.retry.tiers().first().copied().unwrap_or(PAUSE);
        let change = Retry {
            hold: self.hold,
            queue: self.queue,
            attempt: again.attempt,
            wait: again.wait.max(shortest),
            answerable: again.answerable,
        };
        Self::settled(self.engine.changes.make(change).await)
    }

    async fn dead(&self, _: u32, reason: &str) -> bool {
        let change = Die {
            hold: self.hold,
            queue: self.queue,
            reason: reason.to_owned(),
            max_length: self.engine.options.max_length,
        };
        Self::settled(self.engine.changes.make(change).await)
    }
}
