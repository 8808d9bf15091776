//! Exchanges and queues on the broker; [`larkauth_contracts::topology`] has the diagram.
//!
//! Every queue is a quorum queue that dead-letters at least once: a message leaves it only when the next queue has it.
//! That requires `reject-publish`: a full queue refuses messages and drops none.
//!
//! The arguments of a queue cannot be changed, so other arguments need other names: change [`GENERATION`] with them, and
//! add the old names to [`retired`]. [`super::retire`] empties and deletes the old queues.

use std::time::Duration;

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};
use larkauth_contracts::topology::{
    BACK_EXCHANGE, DEAD_EXCHANGE, DEAD_LETTER_BINDING_KEYS, DEAD_LETTER_QUEUE, DEAD_LETTER_TTL,
    EVENTS_EXCHANGE, GENERATION, Queue, RETRY_EXCHANGE,
};

use super::error::unavailable;
use crate::{
    BusError, RetryPolicy,
    backend::{MAX_BYTES, MAX_LENGTH},
};

/// Delivery limit of the queues, out of reach. Every delivery that a lost connection, a stop or a browse returns counts, so
/// it says nothing about the message; a newer broker has a limit of twenty when none is set.
const DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The names on the broker.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }
    fn prefixed(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
    /// Returns a name without the prefix.
    pub(crate) fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.prefix)?.strip_prefix('.')
    }
    pub(crate) fn events(&self) -> String {
        self.prefixed(EVENTS_EXCHANGE)
    }
    pub(crate) fn retry(&self) -> String {
        self.prefixed(RETRY_EXCHANGE)
    }
    pub(crate) fn back(&self) -> String {
        self.prefixed(BACK_EXCHANGE)
    }
    pub(crate) fn dead(&self) -> String {
        self.prefixed(DEAD_EXCHANGE)
    }
    /// Returns the name of a durable queue.
    fn generation(&self, name: &str) -> String {
        self.prefixed(&format!("{name}.{GENERATION}"))
    }
    pub(crate) fn queue(&self, queue: Queue) -> String {
        self.generation(queue.name())
    }
    /// Returns the queue of messages that are handled alone.
    pub(crate) fn isolated(&self, queue: Queue) -> String {
        self.generation(&format!("{queue}.isolated"))
    }
    pub(crate) fn dead_letters(&self) -> String {
        self.generation(DEAD_LETTER_QUEUE)
    }
    pub(crate) fn delay(&self, tier: Duration) -> String {
        self.generation(&format!("delay.{}", label(tier)))
    }
    pub(crate) fn replies(&self, id: &str) -> String {
        self.prefixed(&format!("replies.{id}"))
    }
}

/// Returns the label of a tier in names and keys: seconds, or `250ms`.
fn label(tier: Duration) -> String {
    if tier.subsec_millis() == 0 { tier.as_secs().to_string() } else { format!("{}ms", tier.as_millis()) }
}

/// Where a queue's messages are handled: beside others, or alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Shared,
    Isolated,
}

/// Returns the routing key that delays a message by a tier and then routes it to a queue's lane.
pub(crate) fn delay_key(tier: Duration, queue: Queue, lane: Lane) -> String {
    format!("{}.{}", label(tier), back_word(queue, lane))
}

/// Returns the last word of the routing keys that lead back to a queue's lane.
fn back_word(queue: Queue, lane: Lane) -> String {
    match lane {
        Lane::Shared => queue.name().to_owned(),
        Lane::Isolated => format!("{queue}-isolated"),
    }
}

/// Declares the exchanges, queues and bindings that are missing.
///
/// # Errors
/// [`BusError::Topology`] when one exists with other properties.
pub(crate) async fn declare(channel: &Channel, names: &Names, policy: &RetryPolicy) -> Result<(), BusError> {
    let broker = Declaring { channel };
    for exchange in [names.events(), names.retry(), names.back(), names.dead()] {
        broker.exchange(&exchange).await?;
    }

    let dead_letters = names.dead_letters();
    broker.queue(&dead_letters, &[("x-message-ttl", millis(DEAD_LETTER_TTL))]).await?;
    broker.bind(&dead_letters, &names.dead(), "#").await?;
    for key in DEAD_LETTER_BINDING_KEYS {
        broker.bind(&dead_letters, &names.events(), key).await?;
    }

    for queue in Queue::ALL {
        let dead = [
            ("x-dead-letter-exchange", text(&names.dead())),
            ("x-dead-letter-routing-key", text(queue.name())),
            ("x-dead-letter-strategy", text("at-least-once")),
        ];
        let name = names.queue(*queue);
        broker.queue(&name, &dead).await?;
        for key in queue.binding_keys() {
            broker.bind(&name, &names.events(), key).await?;
        }
        for dead_in in queue.dead_letters_of() {
            broker.bind(&name, &names.dead(), dead_in.name()).await?;
        }
        broker.bind(&name, &names.back(), &format!("*.{}", back_word(*queue, Lane::Shared))).await?;

        let isolated = names.isolated(*queue);
        let alone = [("x-single-active-consumer", AMQPValue::Boolean(true))];
        broker.queue(&isolated, &[&dead[..], &alone].concat()).await?;
        broker.bind(&isolated, &names.back(), &format!("*.{}", back_word(*queue, Lane::Isolated))).await?;
    }

    for tier in policy.tiers() {
        let name = names.delay(*tier);
        let arguments = [
            ("x-message-ttl", millis(*tier)),
            ("x-dead-letter-exchange", text(&names.back())),
            ("x-dead-letter-strategy", text("at-least-once")),
        ];
        broker.queue(&name, &arguments).await?;
        broker.bind(&name, &names.retry(), &format!("{}.*", label(*tier))).await?;
    }
    Ok(())
}

/// What becomes of the messages in a queue of an earlier build.
#[derive(Debug)]
pub(crate) enum Successor {
    /// They are moved to this queue.
    Queue(String),
    /// They are delayed once more, by their routing key.
    Delay,
    /// They are dead letters, moved with the record of their death.
    DeadLetters,
}

/// A queue of an earlier build.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) name: String,
    pub(crate) successor: Successor,
    /// Its bindings: exchange and routing key.
    pub(crate) bindings: Vec<(String, String)>,
}

/// Returns the queues of earlier builds.
pub(crate) fn retired(names: &Names, policy: &RetryPolicy) -> Vec<Retired> {
    // The first generation had no suffix; its queues had no bound in bytes, and a delivery limit of 5.
    let work = Queue::ALL.iter().map(|queue| {
        let events = queue.binding_keys().iter().map(|key| (names.events(), (*key).to_owned()));
        Retired {
            name: names.prefixed(queue.name()),
            successor: Successor::Queue(names.queue(*queue)),
            bindings: events.chain([(names.back(), format!("*.{queue}"))]).collect(),
        }
    });
    let delays = policy.tiers().iter().map(|tier| Retired {
        name: names.prefixed(&format!("delay.{}", label(*tier))),
        successor: Successor::Delay,
        bindings: vec![(names.retry(), format!("{}.*", label(*tier)))],
    });
    let events = DEAD_LETTER_BINDING_KEYS.iter().map(|key| (names.events(), (*key).to_owned()));
    let dead = Retired {
        name: names.prefixed(DEAD_LETTER_QUEUE),
        successor: Successor::DeadLetters,
        bindings: events.chain([(names.dead(), "#".to_owned())]).collect(),
    };
    work.chain(delays).chain([dead]).collect()
}

/// Removes the exchanges and queues that [`declare`] creates, with their messages, and those of earlier builds.
pub(crate) async fn remove(channel: &Channel, names: &Names, policy: &RetryPolicy) -> lapin::Result<()> {
    let work = Queue::ALL.iter().flat_map(|queue| [names.queue(*queue), names.isolated(*queue)]);
    let delays = policy.tiers().iter().map(|tier| names.delay(*tier));
    let retired = retired(names, policy).into_iter().map(|queue| queue.name);
    for queue in work.chain(delays).chain([names.dead_letters()]).chain(retired) {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in [names.events(), names.retry(), names.back(), names.dead()] {
        channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
    }
    Ok(())
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn millis(duration: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

struct Declaring<'a> {
    channel: &'a Channel,
}

impl Declaring<'_> {
    async fn exchange(&self, name: &str) -> Result<(), BusError> {
        self.channel
            .exchange_declare(
                name.into(),
                ExchangeKind::Topic,
                ExchangeDeclareOptions { durable: true, ..Default::default() },
                FieldTable::default(),
            )
            .await
            .map_err(|error| explain("exchange", name, &error))
    }

    async fn queue(&self, name: &str, arguments: &[(&str, AMQPValue)]) -> Result<(), BusError> {
        let mut table = FieldTable::default();
        table.insert("x-queue-type".into(), text("quorum"));
        table.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_LENGTH.into()));
        table.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(MAX_BYTES));
        table.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
        table.insert("x-overflow".into(), text("reject-publish"));
        for (key, value) in arguments {
            table.insert((*key).into(), value.clone());
        }
        self.channel
            .queue_declare(name.into(), QueueDeclareOptions { durable: true, ..Default::default() }, table)
            .await
            .map(drop)
            .map_err(|error| explain("queue", name, &error))
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), BusError> {
        self.channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(|error| unavailable("binding a queue", &error))
    }
}

fn explain(kind: &str, name: &str, error: &lapin::Error) -> BusError {
    match error.kind() {
        ErrorKind::ProtocolError(refusal)
            if *refusal.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) =>
        {
            BusError::Topology(format!(
                "{kind} `{name}` has other properties ({}); remove it once it is empty, or use another AMQP_PREFIX",
                refusal.get_message()
            ))
        }
        _ => unavailable("declaring queues", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_names_and_keys_are_in_seconds_or_milliseconds() {
        let names = Names::new("larkauth");
        assert_eq!(names.delay(Duration::from_secs(256)), "larkauth.delay.256.v2");
        let (queue, shared) = (Queue::CardActions, Lane::Shared);
        assert_eq!(delay_key(Duration::from_secs(1), queue, shared), "1.card-actions");
        assert_eq!(delay_key(Duration::from_millis(1500), queue, shared), "1500ms.card-actions");
        assert_eq!(delay_key(Duration::from_secs(1), queue, Lane::Isolated), "1.card-actions-isolated");
    }

    #[test]
    fn retired_names_differ_from_every_name_in_use() {
        let (names, policy) = (Names::new("larkauth"), RetryPolicy::default());
        let retired = retired(&names, &policy);
        assert!(retired.iter().any(|queue| queue.name == "larkauth.invitations"));
        assert!(retired.iter().all(|queue| !queue.name.ends_with(GENERATION)));
    }
}
