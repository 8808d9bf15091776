//! What a service process needs of its parts: probes, gauges, consuming, closing.

use std::{sync::Arc, time::Duration};

use larkauth_contracts::topology::{DEAD_LETTER_QUEUE, Queue};
use larkauth_messaging::{BusError, BusHealth, Consume, Handler};
use larkauth_models::Timestamp;
use larkauth_storage::{StorageError, Store};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, database_clock::after_round_trip, spool::SHORT};

/// Longest round trip after which the database's time is taken: 1 s, of which half is the error.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);

/// Answers when a store takes writes. See [`Context::check_database_writes`].
///
/// # Errors
/// The store's.
pub async fn check_writes(store: &dyn Store, now: Timestamp) -> Result<(), StorageError> {
    store.claim_tick("database_writes", now, now).await.map(drop)
}

impl Context {
    /// Answers when the database answers, within the deadline of one statement, and corrects the clock by its time.
    ///
    /// # Errors
    /// The store's.
    pub async fn ping_database(&self) -> Result<(), StorageError> {
        let asked_at = Instant::now();
        let time = self.store.ping().await?;
        let round_trip = asked_at.elapsed();
        // A slow answer says little about the time.
        if round_trip <= LONGEST_ROUND_TRIP {
            self.clock.correct(after_round_trip(time, round_trip));
        }
        Ok(())
    }

    /// Answers when the database takes writes: the time is written down, which a full disk refuses too.
    ///
    /// # Errors
    /// The store's.
    pub async fn check_database_writes(&self) -> Result<(), StorageError> {
        check_writes(&*self.store, self.now()).await
    }

    /// Answers when the spool can take token pairs, also on a full disk. Allocates what is missing for that.
    ///
    /// # Errors
    /// What is wrong with its folder, what that means and the cure.
    pub async fn check_spool(&self) -> Result<(), String> {
        let checked = self.spool.fill_reserve().await;
        checked.map_err(|error| format!("the escrow spool cannot be used ({error}): {SHORT}"))
    }

    /// Returns the state of the bus, and its changes.
    #[must_use]
    pub fn bus_health(&self) -> watch::Receiver<BusHealth> {
        self.bus.health()
    }

    /// Consumes one queue until `stopping`, and then finishes the deliveries that have begun.
    ///
    /// # Errors
    /// The bus's.
    pub async fn consume(
        &self,
        consume: Consume,
        handler: Arc<dyn Handler>,
        stopping: CancellationToken,
    ) -> Result<(), BusError> {
        self.bus.consume(consume, handler, stopping).await
    }

    /// Updates the gauges of the queues. A gauge keeps its last value while the broker does not answer: the bus watch
    /// reports that.
    pub async fn update_queue_gauges(&self) {
        let gauge = |queue, depth| {
            self.metrics.bus_queue_messages(queue, i64::try_from(depth).unwrap_or(i64::MAX));
        };
        for queue in Queue::ALL {
            if let Ok(depth) = self.bus.depth(*queue).await {
                gauge(queue.name(), depth);
            }
        }
        if let Ok(depth) = self.bus.dead_letter_depth().await {
            gauge(DEAD_LETTER_QUEUE, depth);
        }
    }

    /// Writes the audit records that wait, then closes the connections to the bus and the database. Called after all work has
    /// ended.
    pub async fn close(&self) {
        self.flush_audit().await;
        self.bus.close().await;
        self.store.close().await;
    }
}
