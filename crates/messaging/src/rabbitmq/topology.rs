//! Exchanges and queues on the broker; [`larkauth_contracts::topology`] has the diagram.
//!
//! Every queue is a quorum queue that dead-letters at least once: a message leaves it only when the next queue has it.
//! That requires `reject-publish`: a full queue refuses messages and drops none.

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
    EVENTS_EXCHANGE, Queue, RETRY_EXCHANGE,
};

use super::error::unavailable;
use crate::{BusError, RetryPolicy, backend::MAX_LENGTH};

/// Delivery limit of the dead-letter queue, out of reach: browsing a letter counts as a delivery.
const BROWSE_LIMIT: i64 = 1_000_000_000;

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
    pub(crate) fn queue(&self, queue: Queue) -> String {
        self.prefixed(queue.name())
    }
    pub(crate) fn dead_letters(&self) -> String {
        self.prefixed(DEAD_LETTER_QUEUE)
    }
    pub(crate) fn delay(&self, tier: Duration) -> String {
        self.prefixed(&format!("delay.{}", label(tier)))
    }
    pub(crate) fn replies(&self, id: &str) -> String {
        self.prefixed(&format!("replies.{id}"))
    }
}

/// Returns the label of a tier in names and keys: seconds, or `250ms`.
fn label(tier: Duration) -> String {
    if tier.subsec_millis() == 0 { tier.as_secs().to_string() } else { format!("{}ms", tier.as_millis()) }
}

/// Returns the routing key that delays a message by a tier and then routes it to a queue.
pub(crate) fn delay_key(tier: Duration, queue: Queue) -> String {
    format!("{}.{queue}", label(tier))
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
    // Browsing delivers and returns dead letters. Without a limit of its own, a newer broker would drop a letter after
    // twenty of these deliveries.
    let arguments = [
        ("x-message-ttl", millis(DEAD_LETTER_TTL)),
        ("x-delivery-limit", AMQPValue::LongLongInt(BROWSE_LIMIT)),
    ];
    broker.queue(&dead_letters, &arguments).await?;
    broker.bind(&dead_letters, &names.dead(), "#").await?;
    for key in DEAD_LETTER_BINDING_KEYS {
        broker.bind(&dead_letters, &names.events(), key).await?;
    }

    for queue in Queue::ALL {
        let name = names.queue(*queue);
        let arguments = [
            ("x-delivery-limit", AMQPValue::LongLongInt(policy.delivery_limit.into())),
            ("x-dead-letter-exchange", text(&names.dead())),
            ("x-dead-letter-routing-key", text(queue.name())),
            ("x-dead-letter-strategy", text("at-least-once")),
        ];
        broker.queue(&name, &arguments).await?;
        for key in queue.binding_keys() {
            broker.bind(&name, &names.events(), key).await?;
        }
        broker.bind(&name, &names.back(), &format!("*.{queue}")).await?;
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

/// Removes the exchanges and queues that [`declare`] creates, with their messages.
pub(crate) async fn remove(channel: &Channel, names: &Names, policy: &RetryPolicy) -> lapin::Result<()> {
    let work = Queue::ALL.iter().map(|queue| names.queue(*queue));
    let delays = policy.tiers().iter().map(|tier| names.delay(*tier));
    for queue in work.chain(delays).chain([names.dead_letters()]) {
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
        assert_eq!(names.delay(Duration::from_secs(256)), "larkauth.delay.256");
        assert_eq!(delay_key(Duration::from_secs(1), Queue::CardActions), "1.card-actions");
        assert_eq!(delay_key(Duration::from_millis(1500), Queue::CardActions), "1500ms.card-actions");
    }
}
