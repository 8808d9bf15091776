//! [`Bus`] on RabbitMQ 3.10 or newer.
//!
//! One connection per process, owned by one task that replaces it when it is lost. Quorum queues, publisher confirms
//! with the mandatory flag, retries through delay queues, at-least-once dead letters; no plugin is needed.

mod consume;
mod dead_letters;
mod error;
mod link;
mod session;
mod settle;
mod socket;
mod topology;
mod wire;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use larkauth_models::{Clock, Entropy, EventId, OsEntropy, SecretString, SystemClock};
use larkauth_telemetry::Metrics;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "conformance")]
pub(crate) use self::topology::{Names, remove as remove_topology};
use self::{
    link::{Link, Supervisor},
    session::Publication,
    topology::delay_key,
};
use crate::{Bus, BusError, BusHealth, Consume, DeadLetter, Handler, Outgoing, PendingReply, RetryPolicy};

/// How to use a RabbitMQ broker. Start with [`RabbitMqOptions::new`].
#[derive(Clone, Debug)]
pub struct RabbitMqOptions {
    /// `amqp://user:password@host:port/vhost`, or `amqps://`.
    pub url: SecretString,
    /// Put before the name of every exchange and queue; `larkauth`.
    pub prefix: String,
    /// Shown in the broker's management page, and the `app_id` of messages: the service's name.
    pub connection_name: String,
    /// For one attempt to connect, and for all attempts together at the start; 10 s.
    pub connect_deadline: Duration,
    /// For one publish, from the call to the broker's confirm; 2 s. Also for reading a queue's depth.
    pub publish_deadline: Duration,
    /// AMQP heartbeat in whole seconds; a silent broker is given up after twice that. 10 s.
    pub heartbeat: Duration,
    /// Publishes that may be under way at once, 1 to 1024; others wait within their deadline. 256.
    pub max_in_flight: usize,
    /// Answers that may be awaited at once; further requests are published without asking for one. 4096.
    pub max_pending_replies: usize,
    /// Delays and limits; the contract's by default.
    pub retry: RetryPolicy,
    /// Where the bus counts.
    pub metrics: Metrics,
    /// For correlation ids and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// For the time of publishing.
    pub clock: Arc<dyn Clock>,
}

impl RabbitMqOptions {
    /// The defaults, for this address and service.
    pub fn new(url: SecretString, connection_name: impl Into<String>, metrics: Metrics) -> Self {
        Self {
            url,
            prefix: "larkauth".to_owned(),
            connection_name: connection_name.into(),
            connect_deadline: Duration::from_secs(10),
            publish_deadline: Duration::from_secs(2),
            heartbeat: Duration::from_secs(10),
            max_in_flight: 256,
            max_pending_replies: 4096,
            retry: RetryPolicy::default(),
            metrics,
            entropy: Arc::new(OsEntropy),
            clock: Arc::new(SystemClock),
        }
    }
}

/// The bus on RabbitMQ. Dropping it ends the connection without a word; [`Bus::close`] ends it in order.
#[derive(Debug)]
pub struct RabbitMq {
    link: Arc<Link>,
    stop: CancellationToken,
    supervisor: Mutex<JoinSet<()>>,
}

impl RabbitMq {
    /// Connects and declares the topology.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when that did not work within `connect_deadline` (or at once, when the broker refuses the
    /// credentials), [`BusError::Topology`] when queues of that prefix exist with other properties.
    pub async fn connect(options: RabbitMqOptions) -> Result<Self, BusError> {
        let (link, supervisor) = Link::connect(options).await?;
        Ok(Self::supervised(link, supervisor))
    }

    /// Returns a bus without a connection, which it makes in the background. Until then [`Bus::health`] is down and
    /// publishing fails with [`BusError::Unavailable`].
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the options are not valid.
    pub fn connect_lazily(options: RabbitMqOptions) -> Result<Self, BusError> {
        let (link, supervisor) = Link::unconnected(options)?;
        Ok(Self::supervised(link, supervisor))
    }

    /// Removes every exchange and queue of that prefix, with the messages in them. For demonstrations and tests; nothing
    /// may be using them.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the broker does not do it within `connect_deadline`.
    pub async fn remove_topology(options: RabbitMqOptions) -> Result<(), BusError> {
        session::remove_topology(&options).await
    }

    fn supervised(link: Arc<Link>, supervisor: Supervisor) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(supervisor.run(stop.clone()));
        Self { link, stop, supervisor: Mutex::new(tasks) }
    }

    fn app_id(&self) -> &str {
        &self.link.options.connection_name
    }

    fn event(&self, message: Outgoing) -> Publication {
        Publication {
            exchange: self.link.names.events(),
            routing_key: message.routing_key.to_owned(),
            properties: wire::first(&message, self.app_id(), Some(self.link.options.clock.now())),
            body: message.body,
        }
    }
}

#[async_trait]
impl Bus for RabbitMq {
    async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        self.link.publish(self.event(message)).await
    }

    async fn request(&self, message: Outgoing) -> Result<PendingReply, BusError> {
        self.link.request(self.event(message)).await
    }

    async fn publish_later(&self, message: Outgoing, queue: Queue, delay: Duration) -> Result<(), BusError> {
        let tier = self.link.options.retry.tier_for(delay);
        // No time of publishing: the wait is on purpose, and must not count as lag.
        let properties = wire::first(&message, self.app_id(), None);
        let publication = Publication {
            exchange: self.link.names.retry(),
            routing_key: delay_key(tier, queue),
            properties: wire::with_remaining(properties, delay.saturating_sub(tier)),
            body: message.body,
        };
        self.link.publish(publication).await
    }

    async fn consume(
        &self,
        what: Consume,
        handler: Arc<dyn Handler>,
        shutdown: CancellationToken,
    ) -> Result<(), BusError> {
        consume::run(&self.link, what, handler, &shutdown).await
    }

    async fn depth(&self, queue: Queue) -> Result<u64, BusError> {
        self.link.depth(self.link.names.queue(queue)).await
    }

    async fn dead_letter_depth(&self) -> Result<u64, BusError> {
        self.link.depth(self.link.names.dead_letters()).await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BusError> {
        dead_letters::browse(&self.link, limit).await
    }

    async fn requeue_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        dead_letters::requeue(&self.link, id).await
    }

    async fn drop_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        dead_letters::remove(&self.link, id).await
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        self.link.health()
    }

    async fn close(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}
