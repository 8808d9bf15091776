use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use larkauth_contracts::{
    message::{Envelope, Message},
    topology::Queue,
};
use larkauth_models::{EventId, Timestamp};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Why the bus could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Not connected, or there was no answer in time. Nothing is known to be accepted. Worth a retry.
    #[error("the message bus is unavailable ({during}): {message}")]
    Unavailable {
        /// What was being done.
        during: &'static str,
        /// The driver's words, without the connection string, and the cure.
        message: String,
    },
    /// The bus answered, and did not take the message: no queue is bound to the routing key, or one is full.
    #[error("the message bus refused `{routing_key}`: {message}")]
    Refused {
        /// Where it should have gone.
        routing_key: String,
        /// Why.
        message: String,
    },
    /// Exchanges, queues or tables are not as this build needs them. Says the cure.
    #[error("the message bus does not fit this build: {0}")]
    Topology(String),
    /// The message cannot be written down: our mistake.
    #[error("the message cannot be encoded: {0}")]
    Encode(String),
}

/// A message to publish. It is always persistent and mandatory.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Unique to the effect; becomes the AMQP `message_id`.
    pub id: EventId,
    /// Routing key on the events exchange.
    pub routing_key: &'static str,
    /// CloudEvents type; becomes the AMQP `type`.
    pub r#type: &'static str,
    /// The body.
    pub body: Bytes,
    /// Extra headers, such as `traceparent`.
    pub headers: BTreeMap<String, String>,
}

impl Outgoing {
    /// Encodes an envelope; trace context of the current span goes into the headers.
    ///
    /// # Errors
    /// When the envelope cannot be encoded.
    pub fn new<T: Message>(envelope: &Envelope<T>) -> Result<Self, BusError> {
        let body = envelope.encode().map_err(|e| BusError::Encode(e.to_string()))?;
        let mut headers = BTreeMap::new();
        larkauth_telemetry::propagation::inject_current(&mut headers);
        Ok(Self {
            id: envelope.id.clone(),
            routing_key: envelope.data.routing_key(),
            r#type: T::TYPE,
            body: body.into(),
            headers,
        })
    }
}

/// Where an answer is expected. Opaque to handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyAddress {
    /// AMQP `reply_to`.
    pub reply_to: String,
    /// AMQP `correlation_id`.
    pub correlation_id: String,
}

/// A message in hand.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// See [`Outgoing::id`].
    pub id: EventId,
    /// The key it was published with first.
    pub routing_key: String,
    /// CloudEvents type, if the publisher said it.
    pub r#type: String,
    /// The body.
    pub body: Bytes,
    /// Headers, without ours of [`larkauth_contracts::topology::header`].
    pub headers: BTreeMap<String, String>,
    /// 1 for the first time; counts what handlers gave back.
    pub attempt: u32,
    /// Whether somebody may have had it in hand before.
    pub redelivered: bool,
    /// Present while somebody may be waiting for an answer.
    pub reply_to: Option<ReplyAddress>,
}

/// What a handler decides about a delivery. There is no fourth way out: nothing is dropped silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It had its effect (or had it before). The reply goes to whoever waits; losing it is harmless.
    Done {
        /// The answer, if one is expected.
        reply: Option<Bytes>,
    },
    /// Not now: infrastructure is down, a limit is reached. Comes again after `after`, or after the attempt's backoff.
    /// After [`larkauth_contracts::topology::MAX_ATTEMPTS`] it is dead.
    Retry {
        /// How long to wait; rounded up to the shortest delay tier, and on RabbitMQ to the next one.
        after: Option<Duration>,
        /// For logs, metrics and, in the end, the dead letter. Never holds a secret.
        reason: String,
    },
    /// Never: malformed, or of a type nobody knows. Goes to the dead letters at once.
    Dead {
        /// For the person who looks at it. Never holds a secret.
        reason: String,
    },
}

impl Disposition {
    /// Done, and nobody needs an answer.
    pub const DONE: Self = Self::Done { reply: None };
}

/// Handles deliveries. Must be idempotent: delivery is at least once.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one. Cancelled when the process shuts down hard; a panic counts as a retry.
    async fn handle(&self, delivery: Delivery) -> Disposition;
}

/// How to consume a queue.
#[derive(Clone, Copy, Debug)]
pub struct Consume {
    /// The queue.
    pub queue: Queue,
    /// At most so many deliveries in hand at once.
    pub concurrency: u16,
    /// A handler that takes longer is cancelled and its delivery retried.
    pub handler_deadline: Duration,
}

/// Whether the bus can be used at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusHealth {
    /// Connected, topology declared.
    Up,
    /// Not connected; reconnecting goes on by itself.
    Down {
        /// The last error.
        reason: String,
    },
}

/// An answer that may come.
#[derive(Debug)]
pub struct PendingReply(pub(crate) oneshot::Receiver<Bytes>);

impl PendingReply {
    /// Waits for it; `None` when it does not come in time. Borrows, so that a late answer can still be awaited.
    pub async fn wait(&mut self, at_most: Duration) -> Option<Bytes> {
        tokio::time::timeout(at_most, &mut self.0).await.ok()?.ok()
    }
}

/// A message in the dead letters, where it waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// See [`Outgoing::id`]. Not unique: a message may have died in several queues, or twice. One that came without a
    /// valid id has one made from its content.
    pub id: EventId,
    /// CloudEvents type, if the publisher said it.
    pub r#type: String,
    /// The key it was published with first.
    pub routing_key: String,
    /// Name of the queue it died in; none when it was published to the dead letters.
    pub queue: Option<String>,
    /// Why; `delivery_limit` when it killed its consumers; none when it was published to the dead letters.
    pub reason: Option<String>,
    /// Attempts it had, from 1.
    pub attempt: u32,
    /// When it came to the dead letters, if that is known.
    pub died_at: Option<Timestamp>,
    /// The body.
    pub body: Bytes,
    /// Headers, without ours of [`larkauth_contracts::topology::header`].
    pub headers: BTreeMap<String, String>,
}

/// A broker. Every method has a deadline; connections heal themselves.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Returns once the bus has taken responsibility: written to disk (of a majority, in a cluster), in every queue that
    /// the key is bound to, and that is at least one.
    async fn publish(&self, message: Outgoing) -> Result<(), BusError>;

    /// As [`Bus::publish`], and lets one consumer answer. The number of pending replies is bounded.
    async fn request(&self, message: Outgoing) -> Result<PendingReply, BusError>;

    /// Publishes so that the message arrives in `queue` only, after at least `delay`.
    async fn publish_later(&self, message: Outgoing, queue: Queue, delay: Duration) -> Result<(), BusError>;

    /// Hands deliveries to the handler until `shutdown`, then finishes those in hand and returns. Survives reconnects.
    ///
    /// # Errors
    /// Only what waiting cannot mend ([`BusError::Topology`]).
    async fn consume(
        &self,
        what: Consume,
        handler: Arc<dyn Handler>,
        shutdown: CancellationToken,
    ) -> Result<(), BusError>;

    /// Messages waiting in a queue, for the gauge.
    async fn depth(&self, queue: Queue) -> Result<u64, BusError>;
    /// Messages waiting in the dead letters, for the gauge.
    async fn dead_letter_depth(&self) -> Result<u64, BusError>;

    /// Looks at the oldest dead letters, at most `limit` of them, and leaves them where they are.
    ///
    /// On RabbitMQ they are in hand meanwhile, so that another look at the same time sees none, and 10,000 are seen at
    /// most.
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BusError>;

    /// Puts a dead letter back into the queue it died in, or where its routing key leads when it died in none, as if it
    /// was published now: attempts are counted anew. `false` when there is none with this id (on RabbitMQ: among
    /// 10,000). When several have it, the oldest is meant.
    ///
    /// # Errors
    /// [`BusError::Refused`] when no queue takes its routing key, or the queue is full; it stays where it is.
    async fn requeue_dead_letter(&self, id: &EventId) -> Result<bool, BusError>;

    /// Forgets a dead letter. `false` when there is none with this id; see [`Bus::requeue_dead_letter`] for which is meant.
    async fn drop_dead_letter(&self, id: &EventId) -> Result<bool, BusError>;

    /// Follows the connection.
    fn health(&self) -> watch::Receiver<BusHealth>;

    /// Closes in order; what was confirmed stays.
    async fn close(&self);
}
