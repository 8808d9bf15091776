//! [`Bus`] on RabbitMQ 3.10 or newer.
//!
//! Two connections per process, one for publishing and one for consuming, each owned by a task that replaces it when it is
//! lost. Quorum queues, publisher confirms with the mandatory flag, retries through delay queues, at-least-once
//! dead-lettering; no plugin is needed.

mod connection;
mod connection_manager;
mod consume;
mod dead_letters;
mod dial;
mod error;
mod link;
mod options;
mod retire;
mod settle;
mod socket;
mod supervisor;
mod topology;
mod trials;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use larkauth_models::EventId;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::options::RabbitMqOptions;
#[cfg(feature = "conformance")]
pub(crate) use self::topology::{Names, remove as remove_topology};
use self::{
    connection::Publication,
    connection_manager::ConnectionManager,
    dial::Role,
    link::Opened,
    supervisor::Supervisor,
    topology::{Lane, delay_key},
};
use crate::{Bus, BusError, BusHealth, Consume, DeadLetter, Handler, Offer, Offered, Outgoing, PendingReply};

/// The bus on RabbitMQ. Dropping it closes the sockets; [`Bus::close`] closes the connections in order.
#[derive(Debug)]
pub struct RabbitMq {
    manager: Arc<ConnectionManager>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl RabbitMq {
    /// Connects and declares the topology.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] after `connect_deadline`, or at once when the broker refuses the credentials; [`BusError::Topology`] when queues of that prefix exist with other properties.
    pub async fn connect(options: RabbitMqOptions) -> Result<Self, BusError> {
        let (manager, opened) = ConnectionManager::connect(options).await?;
        Ok(Self::supervised(manager, opened.map(|(role, opened)| (role, Some(opened)))))
    }

    /// Returns a bus without a connection, which is opened in the background. Until then [`Bus::health`] is down and
    /// publishing fails with [`BusError::Unavailable`].
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the options are not valid.
    pub fn connect_lazily(options: RabbitMqOptions) -> Result<Self, BusError> {
        let manager = ConnectionManager::unconnected(options)?;
        Ok(Self::supervised(manager, [(Role::Publishing, None), (Role::Consuming, None)]))
    }

    /// Removes every exchange and queue of the prefix, with their messages. For demonstrations and tests; no process may
    /// use them.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the broker does not complete it within `connect_deadline`.
    pub async fn remove_topology(options: RabbitMqOptions) -> Result<(), BusError> {
        dial::remove_topology(&options).await
    }

    fn supervised(manager: Arc<ConnectionManager>, connections: [(Role, Option<Opened>); 2]) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (role, opened) in connections {
            let supervisor = Supervisor { manager: Arc::clone(&manager), role, opened };
            tasks.spawn(supervisor.run(stop.clone()));
        }
        tasks.spawn(retire::run(Arc::clone(&manager), stop.clone()));
        Self { manager, stop, tasks: Mutex::new(tasks) }
    }

    fn app_id(&self) -> &str {
        &self.manager.options.connection_name
    }

    fn event(&self, message: Outgoing) -> Publication {
        Publication {
            exchange: self.manager.names.events(),
            routing_key: message.routing_key.to_owned(),
            properties: wire::first(&message, self.app_id(), Some(self.manager.options.clock.now())),
            body: message.body,
        }
    }
}

#[async_trait]
impl Bus for RabbitMq {
    async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        self.manager.publish(self.event(message)).await
    }

    async fn request(&self, message: Outgoing) -> Result<PendingReply, BusError> {
        self.manager.request(self.event(message)).await
    }

    async fn offer(&self, offer: Offer) -> Result<Offered, BusError> {
        let publication = Publication {
            exchange: self.manager.names.events(),
            routing_key: offer.routing_key.clone(),
            properties: wire::offered(&offer, self.app_id(), self.manager.options.clock.now()),
            body: offer.body,
        };
        let taken = if offer.wants_reply {
            self.manager.request(publication).await.map(Some)
        } else {
            self.manager.publish(publication).await.map(|()| None)
        };
        match taken {
            Ok(reply) => Ok(Offered::Taken(reply)),
            Err(BusError::Refused { .. }) => Ok(Offered::NotTaken),
            Err(error) => Err(error),
        }
    }

    async fn publish_later(&self, message: Outgoing, queue: Queue, delay: Duration) -> Result<(), BusError> {
        let tier = self.manager.options.retry.tier_for(delay);
        // No time of publishing: the delay is deliberate and does not count as lag.
        let properties = wire::first(&message, self.app_id(), None);
        let publication = Publication {
            exchange: self.manager.names.retry(),
            routing_key: delay_key(tier, queue, Lane::Shared),
            properties: wire::with_remaining(properties, delay.saturating_sub(tier)),
            body: message.body,
        };
        self.manager.publish(publication).await
    }

    async fn consume(
        &self,
        what: Consume,
        handler: Arc<dyn Handler>,
        shutdown: CancellationToken,
    ) -> Result<(), BusError> {
        consume::run(&self.manager, what, handler, &shutdown).await
    }

    async fn depth(&self, queue: Queue) -> Result<u64, BusError> {
        let queues = [self.manager.names.queue(queue), self.manager.names.isolated(queue)];
        Ok(self.manager.count(&queues).await?.messages)
    }

    async fn consumers(&self, queue: Queue) -> Result<Option<u64>, BusError> {
        Ok(Some(self.manager.count(&[self.manager.names.queue(queue)]).await?.consumers))
    }

    async fn dead_letter_depth(&self) -> Result<u64, BusError> {
        Ok(self.manager.count(&[self.manager.names.dead_letters()]).await?.messages)
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BusError> {
        dead_letters::browse(&self.manager, limit).await
    }

    async fn requeue_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        dead_letters::requeue(&self.manager, id).await
    }

    async fn drop_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        dead_letters::remove(&self.manager, id).await
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        self.manager.health()
    }

    async fn close(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }
}
