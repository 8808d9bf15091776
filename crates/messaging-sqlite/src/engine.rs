use std::{sync::Arc, time::Duration};

use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    BusError, BusHealth, Outgoing, ReplyAddress,
    backend::{Replies, routing},
};
use larkauth_models::Entropy;
use sqlx::{SqliteConnection, SqlitePool, query_scalar};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    file::describe, notifier::Notifier, options::EmbeddedOptions, publishing::Publish, writer::Changes,
};

pub(crate) const READING: &str = "reading the database";

/// State shared by the bus and its consumers.
pub(crate) struct Engine {
    pub(crate) options: EmbeddedOptions,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) replies: Arc<Replies>,
    pub(crate) changes: Changes,
    /// Connections that only read.
    pub(crate) reader: SqlitePool,
    pub(crate) health: watch::Sender<BusHealth>,
    /// Cancelled when the bus closes: no new work after it.
    pub(crate) closed: CancellationToken,
}

impl Engine {
    /// Lends a connection that may only read to `work`, within the deadline.
    pub(crate) async fn read<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, BusError> {
        let unavailable = |message| BusError::Unavailable { during: READING, message };
        if self.closed.is_cancelled() {
            return Err(unavailable("the bus is closed".to_owned()));
        }
        let reading = async { work(&mut *self.reader.acquire().await?).await };
        match timeout(self.options.publish_deadline, reading).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(unavailable(describe(&error))),
            Err(_) => Err(unavailable("no answer in time".to_owned())),
        }
    }

    /// Returns the random token of a claim.
    pub(crate) fn lease_token(&self) -> i64 {
        let mut token = [0; 8];
        self.options.entropy.fill(&mut token);
        i64::from_le_bytes(token)
    }

    /// Counts the messages of a place that are due.
    pub(crate) async fn due(&self, place: &str) -> Result<u64, BusError> {
        let now = self.options.clock.now().timestamp_micros();
        self.read(async |db| {
            query_scalar!(
                r#"select count(*) as "count!: i64" from bus_messages where place = ?1 and visible_at <= ?2"#,
                place,
                now
            )
            .fetch_one(db)
            .await
        })
        .await
        .map(|count| u64::try_from(count).unwrap_or(0))
    }

    pub(crate) async fn publish(&self, message: Publish) -> Result<(), BusError> {
        let started = Instant::now();
        let result = timeout(self.options.publish_deadline, self.changes.make(message)).await;
        let result = result.unwrap_or_else(|_| {
            let message = "it was not written in time".to_owned();
            Err(BusError::Unavailable { during: "publish", message })
        });
        let result = result.and_then(|taken| taken);
        let outcome = match &result {
            Ok(()) => "confirmed",
            Err(BusError::Refused { .. }) => "refused",
            Err(_) => "unavailable",
        };
        self.options.metrics.bus_published(outcome, started.elapsed());
        result
    }

    /// Publishes to the queues of the routing key.
    pub(crate) async fn publish_routed(
        &self,
        message: Outgoing,
        reply_to: Option<ReplyAddress>,
    ) -> Result<(), BusError> {
        let queues: Vec<Queue> = routing::queues(message.routing_key).collect();
        let dead_on_arrival = routing::is_dead_on_arrival(message.routing_key);
        if queues.is_empty() && !dead_on_arrival {
            self.options.metrics.bus_published("refused", Duration::ZERO);
            return Err(BusError::Refused {
                routing_key: message.routing_key.to_owned(),
                message: "no queue is bound to this routing key".to_owned(),
            });
        }
        let capacity = self.options.capacity();
        self.publish(Publish { message, queues, dead_on_arrival, delay: None, reply_to, capacity }).await
    }
}

/// Returns 128 random bits in hexadecimal.
pub(crate) fn random_id(entropy: &dyn Entropy) -> String {
    let mut id = [0; 16];
    entropy.fill(&mut id);
    hex::encode(id)
}
