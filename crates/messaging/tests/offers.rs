//! Messages for other programs on a real broker.
#![expect(clippy::unwrap_used, reason = "for tests: a failure is a failed test")]

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use larkauth_messaging::{
    Offer, Offered,
    testing::{PATIENCE, TestBus},
};
use larkauth_models::EventId;

fn offer(routing_key: &str, wants_reply: bool) -> Offer {
    Offer {
        id: EventId::new("ev-1").unwrap(),
        routing_key: routing_key.to_owned(),
        r#type: "im.message.receive_v1".to_owned(),
        content_type: "application/json",
        body: r#"{"b": 1, "a": 2}"#.into(),
        headers: BTreeMap::from([("x-lark-app-id".to_owned(), "cli_1".to_owned())]),
        wants_reply,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offer_without_bound_queue_is_not_taken() {
    let bed = TestBus::create().await;
    let bus = bed.bus().await;
    for wants_reply in [false, true] {
        let offered = bus.offer(offer("lark.event.im.message.receive_v1", wants_reply)).await.unwrap();
        assert!(matches!(offered, Offered::NotTaken), "{offered:?}");
    }
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offer_with_bound_queue_arrives_unchanged_and_returns_reply() {
    let bed = TestBus::create().await;
    let bus = bed.bus().await;
    let (channel, exchange) = (bed.channel().await, format!("{}.events", bed.prefix()));
    let declare = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), declare, FieldTable::default()).await.unwrap();
    let name = queue.name().clone();
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(name.clone(), exchange.as_str().into(), "lark.#".into(), bind, FieldTable::default())
        .await
        .unwrap();
    let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume(name, "".into(), consume, FieldTable::default()).await.unwrap();

    let Offered::Taken(Some(mut reply)) = bus.offer(offer("lark.card.action", true)).await.unwrap() else {
        panic!("not taken")
    };
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(delivery.data, r#"{"b": 1, "a": 2}"#.as_bytes());
    assert_eq!(delivery.routing_key.as_str(), "lark.card.action");
    let properties = &delivery.properties;
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "ev-1");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert!(properties.headers().as_ref().unwrap().contains_key("x-lark-app-id"));
    let answer = BasicProperties::default().with_correlation_id(properties.correlation_id().clone().unwrap());
    let reply_to = properties.reply_to().clone().unwrap();
    channel.basic_publish("".into(), reply_to, BasicPublishOptions::default(), b"{}", answer).await.unwrap();
    assert_eq!(reply.wait(PATIENCE).await, Some("{}".into()));

    let Offered::Taken(None) = bus.offer(offer("lark.event.t", false)).await.unwrap() else {
        panic!("not taken")
    };
    let delivery =
        tokio::time::timeout(Duration::from_secs(20), consumer.next()).await.unwrap().unwrap().unwrap();
    assert!(delivery.properties.reply_to().is_none());
    bus.close().await;
    bed.teardown().await;
}
