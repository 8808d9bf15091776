//! The one who writes to the file. What many ask for at the same time becomes one transaction, and so one sync of the disk.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use larkauth_models::Clock;
use larkauth_telemetry::Metrics;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    file::{self, describe},
    notifier::Notifier,
};
use crate::{BusError, BusHealth};

/// So many changes become one transaction at most.
const BATCH: usize = 256;
/// So many changes wait at most; whoever has more waits with them.
const WAITING: usize = 1024;
/// For waiting on the file's other writers.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// For one transaction, all included.
const DEADLINE: Duration = Duration::from_secs(5);
pub(super) const DURING: &str = "writing to the database";

/// A change of the file. It is made with others in one transaction, as a whole or not at all.
#[async_trait]
pub(super) trait Change: Send + 'static {
    /// What it gives once it is committed.
    type Output: Send + 'static;

    /// Whether it takes what others let go of. Others go first then: they may be about to say that they have not.
    const TAKES: bool = false;

    /// Makes it. `now` is in microseconds since 1970. An error takes back all changes of the transaction: what concerns
    /// this one alone belongs in the output.
    async fn apply(&self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<Self::Output>;

    /// Whose consumers are to look again then.
    fn touches(&self) -> Vec<Queue> {
        Vec::new()
    }
}

/// A [`Change`] of any kind on its way.
#[async_trait]
pub(super) trait Job: Send {
    /// Nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    fn takes(&self) -> bool;
    async fn apply(&mut self, db: &mut SqliteConnection, now: i64) -> sqlx::Result<()>;
    fn committed(self: Box<Self>, notifier: &Notifier);
    fn failed(self: Box<Self>, error: &BusError);
}

struct Asked<C: Change> {
    change: C,
    output: Option<C::Output>,
    answer: oneshot::Sender<Result<C::Output, BusError>>,
}

#[async_trait]
impl<C: Change + Sync> Job for Asked<C> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn takes(&self) -> bool {
        C::TAKES
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
            // Whoever asked may have gone meanwhile.
            let _ = self.answer.send(Ok(output));
        }
    }

    fn failed(self: Box<Self>, error: &BusError) {
        let _ = self.answer.send(Err(error.clone()));
    }
}

/// Where changes are handed in.
#[derive(Clone)]
pub(super) struct Changes(mpsc::Sender<Box<dyn Job>>);

impl Changes {
    /// Makes a change. Every transaction has a deadline, so this has one too. A caller that goes away before the change
    /// was begun takes it back.
    pub(super) async fn make<C: Change + Sync>(&self, change: C) -> Result<C::Output, BusError> {
        let (answer, answered) = oneshot::channel();
        let closed = || BusError::Unavailable { during: DURING, message: "the bus is closed".to_owned() };
        self.0.send(Box::new(Asked { change, output: None, answer })).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Owns the connection that writes.
pub(super) struct Writer {
    jobs: mpsc::Receiver<Box<dyn Job>>,
    connect: sqlx::sqlite::SqliteConnectOptions,
    /// None after a failure: a connection that failed is replaced.
    connection: Option<SqliteConnection>,
    notifier: Arc<Notifier>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    health: watch::Sender<BusHealth>,
}

impl Writer {
    pub(super) fn new(
        path: &Path,
        notifier: Arc<Notifier>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> (Changes, Self) {
        let (sender, jobs) = mpsc::channel(WAITING);
        metrics.bus_up(true);
        let writer = Self {
            jobs,
            connect: file::options(path, PATIENCE),
            connection: None,
            notifier,
            clock,
            metrics,
            health: watch::Sender::new(BusHealth::Up),
        };
        (Changes(sender), writer)
    }

    pub(super) fn health(&self) -> watch::Sender<BusHealth> {
        self.health.clone()
    }

    /// Writes until `stop`; what was handed in before is still done.
    pub(super) async fn run(mut self, stop: CancellationToken) {
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
        batch.sort_by_key(|job| job.takes());
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
            none => none.insert(self.connect.connect().await?),
        };
        // Whoever begins by reading cannot wait for another writer: what it has read would be out of date.
        let mut tx = connection.begin_with("begin immediate").await?;
        let now = self.clock.now().timestamp_micros();
        for job in batch {
            job.apply(&mut tx, now).await?;
        }
        tx.commit().await
    }

    /// Says how it went to whoever follows the bus's health.
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
