//! The only writer of the bus to the file. Concurrent changes become one transaction, and so one sync of the disk.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{BusError, BusHealth};
use larkauth_models::Clock;
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_telemetry::Metrics;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    file::{BUSY_TIMEOUT, describe},
    notifier::Notifier,
};

/// Largest number of changes in one transaction.
const BATCH: usize = 256;
/// Largest number of queued changes; further callers wait for room.
const WAITING: usize = 1024;
/// Deadline of one transaction, waiting for other writers included, 5 s.
const DEADLINE: Duration = Duration::from_secs(5);
const DURING: &str = "writing to the database";

/// A change of the file. It is applied with others in one transaction, as a whole or not at all.
#[async_trait]
pub(crate) trait Change: Send + 'static {
    /// Result after the commit.
    type Output: Send + 'static;

    /// Whether it is applied after the changes of the same transaction that may settle or renew what it claims.
    const AFTER_RELEASES: bool = false;

    /// Applies it. `now` is in microseconds since 1970. An error rolls back all changes of the transaction, so a failure of
    /// this one alone belongs in the output.
    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Self::Output>;

    /// Returns the queues with changed messages, for their consumers.
    fn touches(&self) -> Vec<Queue> {
        Vec::new()
    }
}

/// A queued [`Change`] of any type.
#[async_trait]
pub(crate) trait Job: Send {
    /// Returns whether its caller no longer waits.
    fn is_abandoned(&self) -> bool;
    fn is_after_releases(&self) -> bool;
    async fn apply(&mut self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()>;
    fn committed(self: Box<Self>, notifier: &Notifier);
    fn failed(self: Box<Self>, error: &BusError);
}

struct Queued<C: Change> {
    change: C,
    output: Option<C::Output>,
    answer: oneshot::Sender<Result<C::Output, BusError>>,
}

#[async_trait]
impl<C: Change + Sync> Job for Queued<C> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn is_after_releases(&self) -> bool {
        C::AFTER_RELEASES
    }

    async fn apply(&mut self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
        self.output = Some(self.change.apply(db, now).await?);
        Ok(())
    }

    fn committed(self: Box<Self>, notifier: &Notifier) {
        for queue in self.change.touches() {
            notifier.wake(queue);
        }
        if let Some(output) = self.output {
            // Fails when the caller no longer waits.
            let _ = self.answer.send(Ok(output));
        }
    }

    fn failed(self: Box<Self>, error: &BusError) {
        let _ = self.answer.send(Err(error.clone()));
    }
}

/// Sender of changes to the writer.
#[derive(Clone)]
pub(crate) struct Changes(mpsc::Sender<Box<dyn Job>>);

impl Changes {
    /// Makes a change and returns its output after the commit. Transactions have a deadline, so this has one too. Dropping
    /// the future before the transaction begins cancels the change.
    pub(crate) async fn make<C: Change + Sync>(&self, change: C) -> Result<C::Output, BusError> {
        let (answer, answered) = oneshot::channel();
        let closed = || BusError::Unavailable { during: DURING, message: "the bus is closed".to_owned() };
        self.0.send(Box::new(Queued { change, output: None, answer })).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Owns the connection that writes.
pub(crate) struct Writer {
    jobs: mpsc::Receiver<Box<dyn Job>>,
    options: SqliteConnectOptions,
    /// `None` after a failure: a failed connection is replaced.
    connection: Option<SqliteConnection>,
    notifier: Arc<Notifier>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    health: watch::Sender<BusHealth>,
}

impl Writer {
    pub(crate) fn new(
        path: &Path,
        notifier: Arc<Notifier>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> (Changes, Self) {
        let (sender, jobs) = mpsc::channel(WAITING);
        metrics.bus_up(true);
        let writer = Self {
            jobs,
            options: larkauth_sqlite::options(path, BUSY_TIMEOUT),
            connection: None,
            notifier,
            clock,
            metrics,
            health: watch::Sender::new(BusHealth::Up),
        };
        (Changes(sender), writer)
    }

    pub(crate) fn health(&self) -> watch::Sender<BusHealth> {
        self.health.clone()
    }

    /// Writes until `stop`, and makes the changes that were queued before it.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.jobs.is_closed() => self.jobs.close(),
                count = self.jobs.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.commit(&mut batch).await;
                }
            }
        }
        self.metrics.bus_up(false);
        self.health.send_replace(BusHealth::Down { reason: "closed".to_owned() });
        if let Some(connection) = self.connection
            && let Ok(Err(error)) = timeout(DEADLINE, connection.close()).await
        {
            tracing::debug!(error = %describe(&error), "the database did not close in order");
        }
    }

    async fn commit(&mut self, batch: &mut Vec<Box<dyn Job>>) {
        batch.retain(|job| !job.is_abandoned());
        if batch.is_empty() {
            return;
        }
        batch.sort_by_key(|job| job.is_after_releases());
        let failure = match timeout(DEADLINE, self.transaction(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(describe(&error)),
            Err(_) => Some(format!("no answer within {DEADLINE:?}")),
        };
        if let Some(message) = &failure {
            self.connection = None;
            let error = BusError::Unavailable { during: DURING, message: message.clone() };
            batch.drain(..).for_each(|job| job.failed(&error));
        } else {
            batch.drain(..).for_each(|job| job.committed(&self.notifier));
        }
        self.report(failure);
    }

    async fn transaction(&mut self, batch: &mut [Box<dyn Job>]) -> sqlx::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(larkauth_sqlite::connect(&self.options, BUSY_TIMEOUT).await?),
        };
        let mut tx = connection.begin_with(BEGIN_WRITING).await?;
        let now = self.clock.now().timestamp_micros();
        for job in batch {
            job.apply(&mut tx, now).await?;
        }
        tx.commit().await
    }

    /// Updates the health of the bus after a transaction.
    fn report(&self, failure: Option<String>) {
        let health = failure.map_or(BusHealth::Up, |reason| BusHealth::Down { reason });
        self.metrics.bus_up(health == BusHealth::Up);
        self.health.send_if_modified(|known| {
            let changed = *known != health;
            match &health {
                BusHealth::Down { reason } if changed => {
                    tracing::warn!(%reason, "the bus cannot be written to");
                }
                BusHealth::Up if changed => {
                    tracing::info!("the bus can be written to again");
                }
                _ => {}
            }
            *known = health;
            changed
        });
    }
}
