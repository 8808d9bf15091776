//! Conversion between messages of the bus and AMQP properties and headers.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use larkauth_contracts::{
    message::CONTENT_TYPE,
    topology::{Queue, header},
};
use larkauth_models::{EventId, Timestamp};

use crate::{Delivery, Offer, Outgoing, ReplyAddress, backend::Incoming};

/// Prefix of this product's headers.
const OURS: &str = "x-larkauth-";
/// Prefixes of headers that the broker adds.
const BROKERS: &[&str] =
    &["x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-opt-"];

const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// Returns the properties of a message's first publication.
pub(super) fn first(message: &Outgoing, app_id: &str, now: Option<Timestamp>) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        // AMQP limits names to 255 bytes; a longer one is dropped.
        if let Ok(name) = ShortString::try_new(name) {
            headers.insert(name, text(value));
        }
    }
    headers.insert(header::ROUTING_KEY.into(), text(message.routing_key));
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(CONTENT_TYPE.into())
        .with_message_id(message.id.as_str().into())
        .with_type(message.r#type.into())
        .with_app_id(app_id.into());
    if let Some(now) = now {
        headers.insert(header::PUBLISHED_MS.into(), AMQPValue::LongLongInt(now.timestamp_millis()));
        properties = properties.with_timestamp(u64::try_from(now.timestamp()).unwrap_or(0));
    }
    properties.with_headers(headers)
}

/// Returns the properties of a message for other programs.
pub(super) fn offered(offer: &Offer, app_id: &str, now: Timestamp) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &offer.headers {
        if let Ok(name) = ShortString::try_new(name) {
            headers.insert(name, text(value));
        }
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(offer.content_type.into())
        .with_message_id(offer.id.as_str().into())
        .with_app_id(app_id.into())
        .with_timestamp(u64::try_from(now.timestamp()).unwrap_or(0))
        .with_headers(headers);
    // AMQP has room for 255 bytes in a type. A longer one is left out.
    match ShortString::try_new(&offer.r#type) {
        Ok(kind) => properties.with_type(kind),
        Err(_) => properties,
    }
}

/// Returns the properties of a reply.
pub(super) fn reply(address: &ReplyAddress, app_id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(TRANSIENT)
        .with_content_type("application/json".into())
        .with_correlation_id(address.correlation_id.as_str().into())
        .with_app_id(app_id.into())
}

/// Changes of a forwarded copy.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) attempt: u32,
    /// Reason, one bounded line.
    pub(super) reason: Option<&'a str>,
    pub(super) queue: Option<Queue>,
    /// Rest of the wait after the next tier.
    pub(super) remaining: Duration,
    /// Time of dead-lettering.
    pub(super) died_at: Option<Timestamp>,
    /// Whether the caller may still await a reply then.
    pub(super) keep_reply_to: bool,
    /// Crashes of consumers that handled the message alone; `None` unless the copy is for the isolated queue.
    pub(super) crashes: Option<u32>,
}

/// Returns the properties of a copy: the original's without the broker's headers, with the changes.
pub(super) fn copy(original: &lapin::message::Delivery, changes: &Changes<'_>) -> BasicProperties {
    let from = &original.properties;
    let mut headers = FieldTable::default();
    for (name, value) in from.headers().as_ref().into_iter().flat_map(FieldTable::inner) {
        if !is_brokers(name.as_str()) && ![header::PUBLISHED_MS, header::CRASHES].contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    if !headers.contains_key(header::ROUTING_KEY) {
        headers.insert(header::ROUTING_KEY.into(), text(original.routing_key.as_str()));
    }
    headers.insert(header::ATTEMPT.into(), AMQPValue::LongLongInt(changes.attempt.into()));
    headers.insert(header::REMAINING_MS.into(), millis(changes.remaining));
    if let Some(crashes) = changes.crashes {
        headers.insert(header::CRASHES.into(), AMQPValue::LongLongInt(crashes.into()));
    }
    let queue = changes.queue.map(Queue::name);
    for (name, value) in [(header::REASON, changes.reason), (header::QUEUE, queue)] {
        if let Some(value) = value {
            headers.insert(name.into(), text(value));
        }
    }
    if let Some(died_at) = changes.died_at {
        headers.insert(header::DIED_MS.into(), AMQPValue::LongLongInt(died_at.timestamp_millis()));
    }

    // A list, because the driver's type cannot unset a property, and `expiration` and `user_id` must not be copied.
    let mut to = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    macro_rules! keep {
        ($($get:ident => $with:ident),+) => {
            $(if let Some(value) = from.$get().clone() { to = to.$with(value); })+
        };
    }
    keep!(content_type => with_content_type, content_encoding => with_content_encoding, message_id => with_message_id,
        timestamp => with_timestamp, kind => with_type, app_id => with_app_id);
    if changes.keep_reply_to {
        keep!(reply_to => with_reply_to, correlation_id => with_correlation_id);
    }
    to
}

/// Returns the properties of a copy at its first attempt, without the record of dead-lettering.
pub(super) fn restarted(original: &lapin::message::Delivery) -> BasicProperties {
    let properties = copy(original, &Changes { attempt: 1, ..Changes::default() });
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().as_ref().into_iter().flat_map(FieldTable::inner) {
        if ![header::REASON, header::QUEUE, header::DIED_MS].contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    properties.with_headers(headers)
}

/// Adds the rest of a wait after its first tier.
pub(super) fn with_remaining(properties: BasicProperties, remaining: Duration) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(header::REMAINING_MS.into(), millis(remaining));
    properties.with_headers(headers)
}

/// Parses a delivery.
///
/// # Errors
/// The reason for the dead letter.
pub(super) fn read(raw: &lapin::message::Delivery) -> Result<Incoming, String> {
    let properties = &raw.properties;
    let id = properties.message_id().as_ref().ok_or("it has no message_id")?;
    let id = EventId::new(id.as_str()).map_err(|error| format!("its message_id is not valid: {error}"))?;

    let reply_to = properties
        .reply_to()
        .as_ref()
        .zip(properties.correlation_id().as_ref())
        .map(|(to, id)| ReplyAddress { reply_to: to.to_string(), correlation_id: id.to_string() });
    let delivery = Delivery {
        id,
        routing_key: routing_key(raw),
        r#type: kind(raw),
        body: raw.data.clone().into(),
        headers: headers(raw),
        attempt: attempt(raw),
        // A copy in the isolated queue was delivered before in another one.
        redelivered: raw.redelivered || header_of(raw, header::CRASHES).is_some(),
        reply_to,
    };
    Ok(Incoming { delivery, published_at: time(raw, header::PUBLISHED_MS) })
}

/// Returns the rest of a wait that is longer than the longest tier.
pub(super) fn remaining(raw: &lapin::message::Delivery) -> Duration {
    let millis = header_of(raw, header::REMAINING_MS).and_then(integer).and_then(|n| u64::try_from(n).ok());
    Duration::from_millis(millis.unwrap_or(0))
}

/// Returns the headers that neither the broker nor this product added.
pub(super) fn headers(raw: &lapin::message::Delivery) -> BTreeMap<String, String> {
    let table = raw.properties.headers().as_ref().into_iter().flat_map(FieldTable::inner);
    table
        .filter(|(name, _)| !name.as_str().starts_with(OURS) && !is_brokers(name.as_str()))
        .filter_map(|(name, value)| Some((name.to_string(), string(value)?)))
        .collect()
}

/// Returns the CloudEvents type; empty when the publisher set none.
pub(super) fn kind(raw: &lapin::message::Delivery) -> String {
    raw.properties.kind().as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Returns the routing key of the first publication.
pub(super) fn routing_key(raw: &lapin::message::Delivery) -> String {
    text_of(raw, header::ROUTING_KEY).unwrap_or_else(|| raw.routing_key.to_string())
}

/// Returns the number of the attempt, from 1.
pub(super) fn attempt(raw: &lapin::message::Delivery) -> u32 {
    header_of(raw, header::ATTEMPT).and_then(integer).and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1)
}

/// Returns the number of crashes of consumers that handled the message alone.
pub(super) fn crashes(raw: &lapin::message::Delivery) -> u32 {
    header_of(raw, header::CRASHES).and_then(integer).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// Returns a header's text.
pub(super) fn text_of(raw: &lapin::message::Delivery, name: &str) -> Option<String> {
    header_of(raw, name).and_then(string)
}

/// Returns a header's time.
pub(super) fn time(raw: &lapin::message::Delivery, name: &str) -> Option<Timestamp> {
    header_of(raw, name).and_then(integer).and_then(Timestamp::from_timestamp_millis)
}

fn is_brokers(name: &str) -> bool {
    BROKERS.iter().any(|prefix| name.starts_with(prefix))
}

fn header_of<'a>(raw: &'a lapin::message::Delivery, name: &str) -> Option<&'a AMQPValue> {
    raw.properties.headers().as_ref()?.inner().get(name)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn millis(duration: Duration) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn string(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Returns an integer of any of AMQP's widths: other clients may use each of them.
fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(n) => Some(n.into()),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => Some(n.into()),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => Some(n.into()),
        AMQPValue::LongUInt(n) => Some(n.into()),
        AMQPValue::LongLongInt(n) => Some(n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(properties: BasicProperties) -> lapin::message::Delivery {
        let mut raw =
            lapin::message::Delivery::mock(1, "x".into(), "1.card-actions".into(), true, b"body".to_vec());
        raw.properties = properties;
        raw
    }

    fn message() -> Outgoing {
        Outgoing {
            id: EventId::new("e1").unwrap(),
            routing_key: "card.action.triggered",
            r#type: "t.v1",
            body: "body".into(),
            headers: BTreeMap::from([("traceparent".to_owned(), "00-1".to_owned())]),
        }
    }

    #[test]
    fn read_of_first_and_of_copy_returns_the_message() {
        let properties = first(&message(), "test", Some(Timestamp::UNIX_EPOCH))
            .with_reply_to("r".into())
            .with_correlation_id("c".into());
        let came = read(&raw(properties.clone())).unwrap();
        assert_eq!(came.published_at, Some(Timestamp::UNIX_EPOCH));
        let came = came.delivery;
        assert_eq!(
            (came.routing_key.as_str(), came.attempt, came.redelivered),
            ("card.action.triggered", 1, true)
        );
        assert_eq!(came.headers, message().headers);
        assert!(came.reply_to.is_some());

        let wait = Duration::from_millis(1500);
        let changes = Changes { attempt: 3, reason: Some("down"), remaining: wait, ..Default::default() };
        let copied = copy(&raw(properties), &changes);
        let copied = raw(copied);
        assert_eq!(text_of(&copied, header::REASON).unwrap(), "down");
        let again = read(&copied).unwrap();
        assert_eq!((remaining(&copied), again.published_at), (wait, None));
        let again = again.delivery;
        assert_eq!((again.attempt, again.reply_to, again.id), (3, None, came.id));
        assert_eq!(
            (again.headers, again.r#type, again.routing_key),
            (came.headers, came.r#type, came.routing_key)
        );
    }

    #[test]
    fn copy_for_isolated_queue_counts_crashes_until_it_leaves() {
        let mut original = raw(first(&message(), "test", None));
        original.redelivered = false;
        assert!(!read(&original).unwrap().delivery.redelivered);
        let mut isolated = raw(copy(&original, &Changes { crashes: Some(0), ..Changes::default() }));
        isolated.redelivered = false;
        assert_eq!((crashes(&isolated), read(&isolated).unwrap().delivery.redelivered), (0, true));
        let mut suspected = raw(copy(&isolated, &Changes { crashes: Some(2), ..Changes::default() }));
        suspected.redelivered = false;
        assert_eq!((crashes(&suspected), read(&suspected).unwrap().delivery.redelivered), (2, true));
        let mut harmless = raw(copy(&suspected, &Changes { attempt: 2, ..Changes::default() }));
        harmless.redelivered = false;
        assert_eq!((crashes(&harmless), read(&harmless).unwrap().delivery.redelivered), (0, false));
    }

    #[test]
    fn read_without_valid_message_id_returns_the_reason() {
        assert!(read(&raw(BasicProperties::default())).unwrap_err().contains("no message_id"));
        let odd = BasicProperties::default().with_message_id("a b".into());
        assert!(read(&raw(odd)).unwrap_err().contains("not valid"));
    }
}
