//! Helpers for tests against a real broker, of this crate and of others. Every failure is a panic.
//!
//! - [`TestBed`]: a broker for one test, for the conformance suite.
//! - [`TestBus`]: names with a unique prefix on the RabbitMQ of [`URL_VARIABLE`].
//! - [`TcpProxy`]: a TCP connection that can be interrupted.
//! - [`handler`], [`consume`], [`eventually`]: shorthands.
#![expect(clippy::expect_used, clippy::panic, reason = "for tests: a failure is a failed test")]

mod bed;
mod proxy;
mod rabbitmq;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

pub use self::{
    bed::TestBed,
    proxy::TcpProxy,
    rabbitmq::{TestBus, URL_VARIABLE},
};
use crate::{Bus, BusError, Consume, DeadLetter, Delivery, Disposition, Handler, RetryPolicy};

/// Deadline of conditions that tests wait for: 60 s, which a machine that is busy with other work meets.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a queue with a consumer is empty and stays so for a while: a message that is being moved between queues is in
/// none for a moment, and a crash leaves copies of messages that were handled.
///
/// # Panics
/// When it is not within [`PATIENCE`].
pub async fn drained(bus: &dyn Bus, queue: Queue) {
    let mut empty = 0;
    let deadline = Instant::now() + PATIENCE;
    while empty < 25 {
        assert!(Instant::now() < deadline, "`{queue}` is not empty within {PATIENCE:?}");
        empty = if bus.depth(queue).await == Ok(0) { empty + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns a policy with delays of 50 to 200 ms, 4 attempts and a crash limit of 2.
#[must_use]
pub fn fast_policy() -> RetryPolicy {
    RetryPolicy::new([50, 100, 200].map(Duration::from_millis), 4, 2)
}

/// Removes and returns the oldest dead letter.
///
/// # Panics
/// When none comes within [`PATIENCE`].
pub async fn take_dead_letter(bus: &dyn Bus) -> DeadLetter {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(letter) = bus.dead_letters(1).await.expect("the dead letters").pop() {
            assert!(bus.drop_dead_letter(&letter.id).await.expect("a dead letter is dropped"));
            return letter;
        }
        assert!(Instant::now() < deadline, "no dead letter within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns a handler that calls a closure.
pub fn handler<F, R>(decide: F) -> Arc<dyn Handler>
where
    F: Fn(Delivery) -> R + Send + Sync + 'static,
    R: Future<Output = Disposition> + Send + 'static,
{
    struct FromFn<F>(F);

    #[async_trait]
    impl<F, R> Handler for FromFn<F>
    where
        F: Fn(Delivery) -> R + Send + Sync + 'static,
        R: Future<Output = Disposition> + Send + 'static,
    {
        async fn handle(&self, delivery: Delivery) -> Disposition {
            (self.0)(delivery).await
        }
    }
    Arc::new(FromFn(decide))
}

/// A consumer in the background. Dropping it aborts the handlers, as a crash does.
#[derive(Debug)]
pub struct Consuming {
    shutdown: CancellationToken,
    task: JoinSet<Result<(), BusError>>,
}

/// Starts a consumer.
pub fn consume(bus: &Arc<dyn Bus>, what: Consume, handler: Arc<dyn Handler>) -> Consuming {
    let (bus, shutdown) = (Arc::clone(bus), CancellationToken::new());
    let stop = shutdown.clone();
    let mut task = JoinSet::new();
    task.spawn(async move { bus.consume(what, handler, stop).await });
    Consuming { shutdown, task }
}

impl Consuming {
    /// Starts its shutdown, without waiting.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// As [`Bus::consume`].
    ///
    /// # Panics
    /// When it panicked, or does not end within [`PATIENCE`].
    pub async fn ended(mut self) -> Result<(), BusError> {
        tokio::time::timeout(PATIENCE, self.task.join_next())
            .await
            .expect("the consumer does not end")
            .expect("one task was started")
            .expect("the consumer panicked")
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it ended with an error or does not end.
    pub async fn stop(self) {
        self.shut_down();
        if let Err(error) = self.ended().await {
            panic!("the consumer failed: {error}");
        }
    }
}
