//! Consuming a queue with bounded concurrency, across reconnects, until shutdown.
//!
//! A queue has two lanes. The shared lane handles up to `concurrency` deliveries at once. A delivery that was delivered
//! before may have crashed its consumer, or may only have been in the same process as one that did: it is moved, without
//! being handled, to the isolated queue. That lane handles one delivery at a time, and nothing else of the queue meanwhile.
//! What crashes its consumer there has done it alone. It is tried again behind the others, and is a dead letter after
//! [`RetryPolicy::crash_limit`](crate::RetryPolicy::crash_limit) such crashes.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    Channel, Consumer,
    message::Delivery as Raw,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{MutexGuard, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::Connection,
    connection_manager::ConnectionManager,
    error::describe,
    settle::{Settler, requeue},
    topology::Lane,
    wire,
};
use crate::{BusError, Consume, Handler, backend::Dispatcher};

/// Deadline for opening and for cancelling a consumer, 10 s.
const SETUP_DEADLINE: Duration = Duration::from_secs(10);

/// Consumes until `shutdown` or until the bus is closed, then waits for the running handlers.
pub(super) async fn run(
    manager: &Arc<ConnectionManager>,
    what: Consume,
    handler: Arc<dyn Handler>,
    shutdown: &CancellationToken,
) -> Result<(), BusError> {
    let concurrency = what.concurrency.max(1);
    let work = Arc::new(Work {
        manager: Arc::clone(manager),
        what,
        dispatcher: Dispatcher {
            what,
            handler,
            retry: manager.options.retry.clone(),
            metrics: manager.options.metrics.clone(),
            clock: Arc::clone(&manager.options.clock),
        },
        shutdown: shutdown.clone(),
        permits: Arc::new(Semaphore::new(concurrency.into())),
        concurrency,
    });
    let (shared, isolated) = tokio::join!(consume(&work, Lane::Shared), consume(&work, Lane::Isolated));
    shared.and(isolated)
}

async fn consume(work: &Arc<Work>, lane: Lane) -> Result<(), BusError> {
    let mut consuming = Consuming { work, lane, running: JoinSet::new() };
    let result = loop {
        let connection = tokio::select! {
            biased;
            () = work.shutdown.cancelled() => break Ok(()),
            connection = work.manager.consuming.connection() => match connection {
                Ok(Some(connection)) => connection,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
        };
        if consuming.on(&connection).await.is_break() {
            break Ok(());
        }
    };
    while consuming.running.join_next().await.is_some() {}
    result
}

struct Consuming<'a> {
    work: &'a Arc<Work>,
    lane: Lane,
    /// Dropped with the future of [`run`]: a hard stop aborts the handlers.
    running: JoinSet<()>,
}

impl Consuming<'_> {
    /// Consumes on one connection. `Break` on shutdown, `Continue` when the connection is lost.
    async fn on(&mut self, connection: &Arc<Connection>) -> ControlFlow<()> {
        let queue = self.work.what.queue;
        let (channel, mut consumer) = match timeout(SETUP_DEADLINE, Box::pin(self.open(connection))).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                // The connection is lost, or the queue was deleted: opening a new connection declares it.
                connection.fail(format!("consuming `{queue}` failed: {}", describe(&error)));
                return ControlFlow::Continue(());
            }
            Err(_) => {
                connection.fail(format!("consuming `{queue}` failed: no answer in time"));
                return ControlFlow::Continue(());
            }
        };
        tracing::debug!(%queue, lane = ?self.lane, "consuming");
        loop {
            while self.running.try_join_next().is_some() {}
            tokio::select! {
                biased;
                () = self.work.shutdown.cancelled() => {
                    stop(&channel, consumer).await;
                    return ControlFlow::Break(());
                }
                () = connection.broken.cancelled() => return ControlFlow::Continue(()),
                next = consumer.next() => match next {
                    // No more deliveries than the prefetch count are unacknowledged, so the tasks are bounded.
                    Some(Ok(raw)) => self.take(connection, &channel, raw),
                    Some(Err(error)) => {
                        connection.fail(format!("consuming `{queue}` ended: {}", describe(&error)));
                        return ControlFlow::Continue(());
                    }
                    None => {
                        connection.fail(format!("the broker cancelled the consumer of `{queue}`"));
                        return ControlFlow::Continue(());
                    }
                },
            }
        }
    }

    async fn open(&self, connection: &Connection) -> lapin::Result<(Channel, Consumer)> {
        let (names, queue) = (&self.work.manager.names, self.work.what.queue);
        let (name, prefetch) = match self.lane {
            Lane::Shared => (names.queue(queue), self.work.concurrency),
            Lane::Isolated => (names.isolated(queue), 1),
        };
        let channel = connection.channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let consumer = channel
            .basic_consume(
                name.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok((channel, consumer))
    }

    fn take(&mut self, connection: &Arc<Connection>, channel: &Channel, raw: Raw) {
        let settler = Settler {
            manager: Arc::clone(&self.work.manager),
            channel: channel.clone(),
            queue: self.work.what.queue,
            raw,
        };
        let (work, connection, lane) = (Arc::clone(self.work), Arc::clone(connection), self.lane);
        self.running.spawn(async move {
            match lane {
                Lane::Shared => Box::pin(work.share(&connection, settler)).await,
                Lane::Isolated => Box::pin(work.isolate(&connection, settler)).await,
            }
        });
    }
}

/// State of both lanes.
struct Work {
    manager: Arc<ConnectionManager>,
    what: Consume,
    dispatcher: Dispatcher,
    shutdown: CancellationToken,
    /// One for each handler of the shared lane; the isolated lane takes all.
    permits: Arc<Semaphore>,
    concurrency: u16,
}

impl Work {
    /// Handles a delivery beside others, unless it was delivered before.
    async fn share(&self, connection: &Connection, settler: Settler) {
        let remaining = wire::remaining(&settler.raw);
        if !remaining.is_zero() {
            settler.wait_further(remaining).await;
        } else if settler.raw.redelivered {
            settler.isolate().await;
        } else {
            // The permit counts handlers from before a reconnect too.
            match self.unless_over(connection, self.permits(1)).await {
                Some(Some(_permit)) => self.dispatch(&settler).await,
                _ => requeue(&settler.raw).await,
            }
        }
    }

    /// Handles a delivery alone, unless it has crashed its consumer when it was handled alone before.
    async fn isolate(&self, connection: &Connection, settler: Settler) {
        let (queue, raw) = (self.what.queue, &settler.raw);
        let id = raw.properties.message_id().as_ref().map_or("", |id| id.as_str());
        if raw.redelivered && !self.manager.trials.end(queue, id) {
            let crashes = wire::crashes(raw).saturating_add(1);
            if crashes >= self.dispatcher.retry.crash_limit {
                self.dispatcher.convict(wire::attempt(raw), id, &settler).await;
            } else {
                settler.suspect(crashes).await;
            }
            return;
        }
        match self.unless_over(connection, self.alone()).await {
            Some(Some(_alone)) => {
                self.manager.trials.begin(queue, id);
                self.dispatch(&settler).await;
                if raw.acker.usable() {
                    self.manager.trials.end(queue, id);
                }
            }
            // It was not begun, so its return must not count as a crash.
            _ => settler.give_back().await,
        }
    }

    async fn dispatch(&self, settler: &Settler) {
        self.dispatcher.run(wire::attempt(&settler.raw), wire::read(&settler.raw), settler).await;
    }

    async fn permits(&self, count: u16) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_many_owned(count.into()).await.ok()
    }

    /// Waits until the process handles no other isolated delivery, and no delivery of this queue.
    async fn alone(&self) -> Option<(MutexGuard<'_, ()>, OwnedSemaphorePermit)> {
        let turn = self.manager.alone.lock().await;
        Some((turn, self.permits(self.concurrency).await?))
    }

    /// Waits for a turn; `None` when the consumer stops or the connection is lost first.
    async fn unless_over<T>(&self, connection: &Connection, turn: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            () = connection.broken.cancelled() => None,
            turn = turn => Some(turn),
        }
    }
}

/// Cancels the consumer and returns prefetched deliveries to the queue.
async fn stop(channel: &Channel, mut consumer: Consumer) {
    let stopping = async {
        if let Err(error) = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await {
            tracing::debug!(error = %describe(&error), "a consumer could not be cancelled");
            return;
        }
        while let Some(Ok(raw)) = consumer.next().await {
            requeue(&raw).await;
        }
    };
    if timeout(SETUP_DEADLINE, Box::pin(stopping)).await.is_err() {
        tracing::debug!("a consumer could not be cancelled in time");
    }
}
