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

/// Failure of a call to the bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Not connected, or no answer within the deadline. The message may or may not be accepted; retrying may help.
    #[error("the message bus is unavailable ({during}): {message}")]
    Unavailable {
        /// Operation in progress.
        during: &'static str,
        /// The driver's message, without the connection string, and what to do.
        message: String,
    },
    /// The bus refused the message: no queue is bound to the routing key, or a queue is full.
    #[error("the message bus refused `{routing_key}`: {message}")]
    Refused {
        /// Routing key of the message.
        routing_key: String,
        /// Reason of the refusal.
        message: String,
    },
    /// Exchanges, queues or tables differ from those that this build needs. The message says what to do.
    #[error("the message bus does not fit this build: {0}")]
    Topology(String),
    /// The message cannot be encoded: a defect of this build.
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
    /// Encodes an envelope. The headers carry the trace context of the current span.
    ///
    /// # Errors
    /// [`BusError::Encode`].
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

/// A message for other programs, published without an envelope. larkauth neither keeps it nor consumes it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// See [`Outgoing::id`].
    pub id: EventId,
    /// Routing key on the events exchange.
    pub routing_key: String,
    /// Becomes the AMQP `type`.
    pub r#type: String,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// Extra headers.
    pub headers: BTreeMap<String, String>,
    /// Whether a consumer may reply.
    pub wants_reply: bool,
}

/// Outcome of [`Bus::offer`].
#[derive(Debug)]
pub enum Offered {
    /// Every queue that is bound to the routing key has the message, at least one. With the reply that was asked for.
    Taken(Option<PendingReply>),
    /// No queue took the message: none is bound to its routing key, or one is full.
    NotTaken,
    /// This bus has no place where other programs bind queues.
    Unsupported,
}

/// Address of a reply. Opaque to handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyAddress {
    /// AMQP `reply_to`.
    pub reply_to: String,
    /// AMQP `correlation_id`.
    pub correlation_id: String,
}

/// A message delivered to a consumer and not settled yet.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// See [`Outgoing::id`].
    pub id: EventId,
    /// Routing key of the first publication.
    pub routing_key: String,
    /// CloudEvents type; empty when the publisher set none.
    pub r#type: String,
    /// The body.
    pub body: Bytes,
    /// Headers, without those of [`larkauth_contracts::topology::header`].
    pub headers: BTreeMap<String, String>,
    /// Number of this attempt, from 1; a retry increments it.
    pub attempt: u32,
    /// Whether it may have been delivered before, to this or another consumer.
    pub redelivered: bool,
    /// Present while a caller may await a reply.
    pub reply_to: Option<ReplyAddress>,
}

/// A handler's decision about a delivery. No message is dropped silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The message had its effect, now or in an earlier delivery. A lost reply does no harm.
    Done {
        /// The reply, if one is expected.
        reply: Option<Bytes>,
    },
    /// Infrastructure is down or a limit is reached. Delivered again after `after`, else after the attempt's backoff; a
    /// dead letter after [`larkauth_contracts::topology::MAX_ATTEMPTS`].
    Retry {
        /// Wait before the next attempt; at least the shortest delay tier, and on RabbitMQ rounded up to a tier.
        after: Option<Duration>,
        /// Reason for logs and the dead letter. Never contains a secret.
        reason: String,
    },
    /// The message can never be handled: malformed, or of an unknown type. A dead letter at once.
    Dead {
        /// Reason for the operator. Never contains a secret.
        reason: String,
        /// The reply, if one is expected.
        reply: Option<Bytes>,
    },
}

impl Disposition {
    /// Done, without a reply.
    pub const DONE: Self = Self::Done { reply: None };
}

/// Handles deliveries. Must be idempotent: delivery is at least once.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one delivery. Cancelled by a hard shutdown; a panic counts as a retry.
    async fn handle(&self, delivery: Delivery) -> Disposition;
}

/// A consumer's queue and limits.
#[derive(Clone, Copy, Debug)]
pub struct Consume {
    /// The queue.
    pub queue: Queue,
    /// Largest number of unacknowledged deliveries.
    pub concurrency: u16,
    /// Longest run of a handler; it is cancelled then and its delivery retried.
    pub handler_deadline: Duration,
}

/// Connection state of the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusHealth {
    /// Connected, topology declared.
    Up,
    /// Connected, and the broker takes no messages: it is short of memory or disk. Consuming goes on.
    Blocked {
        /// The broker's reason.
        reason: String,
    },
    /// Not connected; the bus keeps reconnecting.
    Down {
        /// The last error.
        reason: String,
    },
}

/// A reply that may arrive.
#[derive(Debug)]
pub struct PendingReply(oneshot::Receiver<Bytes>);

impl PendingReply {
    /// Awaits the reply on this channel.
    #[must_use]
    pub const fn new(reply: oneshot::Receiver<Bytes>) -> Self {
        Self(reply)
    }

    /// Awaits the reply; `None` when it does not arrive in time. Borrows, so that a late reply can still be awaited.
    pub async fn wait(&mut self, at_most: Duration) -> Option<Bytes> {
        tokio::time::timeout(at_most, &mut self.0).await.ok()?.ok()
    }
}

/// A message in the dead letters, kept for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// See [`Outgoing::id`]. Not unique: a message can become a dead letter in several queues, or twice. Derived from the
    /// content when the message has no valid id.
    pub id: EventId,
    /// CloudEvents type; empty when the publisher set none.
    pub r#type: String,
    /// Routing key of the first publication.
    pub routing_key: String,
    /// Name of the queue it was dead-lettered from; `None` when it was published to the dead letters.
    pub queue: Option<String>,
    /// Reason; `None` when it was published to the dead letters.
    pub reason: Option<String>,
    /// Number of attempts, from 1.
    pub attempt: u32,
    /// Time of dead-lettering, if known.
    pub died_at: Option<Timestamp>,
    /// The body.
    pub body: Bytes,
    /// Headers, without those of [`larkauth_contracts::topology::header`].
    pub headers: BTreeMap<String, String>,
}

/// A message bus. Every method has a deadline, and lost connections are replaced.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes. Returns once the message is on disk (of a majority, in a cluster) in every queue that is bound to the
    /// routing key, at least one.
    async fn publish(&self, message: Outgoing) -> Result<(), BusError>;

    /// Publishes as [`Bus::publish`] does, with a reply address. The number of pending replies is bounded.
    async fn request(&self, message: Outgoing) -> Result<PendingReply, BusError>;

    /// Publishes a message for other programs. That no queue takes it is an outcome and no error.
    async fn offer(&self, _: Offer) -> Result<Offered, BusError> {
        Ok(Offered::Unsupported)
    }

    /// Publishes to `queue` only, with delivery after at least `delay`.
    async fn publish_later(&self, message: Outgoing, queue: Queue, delay: Duration) -> Result<(), BusError>;

    /// Passes deliveries to the handler until `shutdown`, then finishes the unacknowledged ones and returns. Continues
    /// after a reconnect.
    ///
    /// A message whose consumer crashed, or that was only delivered beside the one that crashed it, is handled alone: the
    /// consumer handles nothing else of its queue meanwhile. After
    /// [`RetryPolicy::crash_limit`](crate::RetryPolicy::crash_limit) crashes while it was handled alone it becomes a dead letter.
    ///
    /// Every message that becomes a dead letter in a queue is delivered to [`Queue::DeadLetterNotices`], too.
    ///
    /// # Errors
    /// [`BusError::Topology`], which no retry can correct.
    async fn consume(
        &self,
        what: Consume,
        handler: Arc<dyn Handler>,
        shutdown: CancellationToken,
    ) -> Result<(), BusError>;

    /// Counts the messages that are ready in a queue, for the gauge.
    async fn depth(&self, queue: Queue) -> Result<u64, BusError>;
    /// Counts the consumers of a queue in all processes, for the gauge. `None`: this bus does not know them.
    async fn consumers(&self, _queue: Queue) -> Result<Option<u64>, BusError> {
        Ok(None)
    }
    /// Counts the messages that are ready in the dead letters, for the gauge.
    async fn dead_letter_depth(&self) -> Result<u64, BusError>;

    /// Returns the oldest dead letters, at most `limit`, and leaves them in place.
    ///
    /// On RabbitMQ they are unacknowledged meanwhile, so that a concurrent call returns none, and at most 10,000 are read.
    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BusError>;

    /// Returns a dead letter to the queue it came from, or to the queues of its routing key when it came from none. Its
    /// attempts start at 1 again. `false` when no dead letter has this id (on RabbitMQ: among 10,000). Of several with
    /// this id the oldest is taken.
    ///
    /// # Errors
    /// [`BusError::Refused`] when no queue is bound to its routing key or the queue is full; the dead letter is kept.
    async fn requeue_dead_letter(&self, id: &EventId) -> Result<bool, BusError>;

    /// Deletes a dead letter. `false` when no dead letter has this id; selects as [`Bus::requeue_dead_letter`] does.
    async fn drop_dead_letter(&self, id: &EventId) -> Result<bool, BusError>;

    /// Returns a receiver of the connection state.
    fn health(&self) -> watch::Receiver<BusHealth>;

    /// Closes the bus in order. Confirmed messages are kept.
    async fn close(&self);
}
