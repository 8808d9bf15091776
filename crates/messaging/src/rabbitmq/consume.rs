//! Consuming a queue with bounded concurrency, across reconnects, until shutdown.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    Channel, Consumer,
    message::Delivery as Raw,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::Connection,
    connection_manager::ConnectionManager,
    error::describe,
    settle::{Settler, requeue},
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
    let mut consuming = Consuming {
        manager,
        what,
        dispatcher: Arc::new(Dispatcher {
            what,
            handler,
            retry: manager.options.retry.clone(),
            metrics: manager.options.metrics.clone(),
            clock: Arc::clone(&manager.options.clock),
        }),
        shutdown,
        permits: Arc::new(Semaphore::new(what.concurrency.max(1).into())),
        running: JoinSet::new(),
    };
    let result = loop {
        let connection = tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            connection = manager.connection() => match connection {
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
    manager: &'a Arc<ConnectionManager>,
    what: Consume,
    dispatcher: Arc<Dispatcher>,
    shutdown: &'a CancellationToken,
    permits: Arc<Semaphore>,
    /// Dropped with the future of [`run`]: a hard stop aborts the handlers.
    running: JoinSet<()>,
}

impl Consuming<'_> {
    /// Consumes on one connection. `Break` on shutdown, `Continue` when the connection is lost.
    async fn on(&mut self, connection: &Connection) -> std::ops::ControlFlow<()> {
        let (channel, mut consumer) = match timeout(SETUP_DEADLINE, Box::pin(self.open(connection))).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                // The connection is lost, or the queue was deleted: opening a new connection declares it.
                connection.fail(format!("consuming `{}` failed: {}", self.what.queue, describe(&error)));
                return std::ops::ControlFlow::Continue(());
            }
            Err(_) => {
                connection.fail(format!("consuming `{}` failed: no answer in time", self.what.queue));
                return std::ops::ControlFlow::Continue(());
            }
        };
        tracing::debug!(queue = %self.what.queue, "consuming");
        loop {
            while self.running.try_join_next().is_some() {}
            let next = async {
                // The permit comes first: handlers that run since before a reconnect count too.
                let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
                Some((permit, consumer.next().await?))
            };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {
                    stop(&channel, consumer).await;
                    return std::ops::ControlFlow::Break(());
                }
                () = connection.broken.cancelled() => return std::ops::ControlFlow::Continue(()),
                next = next => match next {
                    Some((permit, Ok(raw))) => self.take(&channel, raw, permit),
                    Some((_, Err(error))) => {
                        connection.fail(format!("consuming `{}` ended: {}", self.what.queue, describe(&error)));
                        return std::ops::ControlFlow::Continue(());
                    }
                    None => {
                        connection.fail(format!("the broker cancelled the consumer of `{}`", self.what.queue));
                        return std::ops::ControlFlow::Continue(());
                    }
                },
            }
        }
    }

    async fn open(&self, connection: &Connection) -> lapin::Result<(Channel, Consumer)> {
        let channel = connection.channel().await?;
        channel.basic_qos(self.what.concurrency.max(1), BasicQosOptions::default()).await?;
        let queue = self.manager.names.queue(self.what.queue);
        let consumer = channel
            .basic_consume(
                queue.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok((channel, consumer))
    }

    fn take(&mut self, channel: &Channel, raw: Raw, permit: OwnedSemaphorePermit) {
        let settler = Settler {
            manager: Arc::clone(self.manager),
            channel: channel.clone(),
            queue: self.what.queue,
            raw,
        };
        let dispatcher = Arc::clone(&self.dispatcher);
        self.running.spawn(async move {
            let remaining = wire::remaining(&settler.raw);
            if remaining.is_zero() {
                dispatcher.run(wire::attempt(&settler.raw), wire::read(&settler.raw), &settler).await;
            } else {
                Box::pin(settler.wait_further(remaining)).await;
            }
            drop(permit);
        });
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
