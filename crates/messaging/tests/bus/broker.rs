//! Lost connections, and queues of an earlier build.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use lapin::{
    BasicProperties,
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    Delivery, Disposition,
    testing::{PATIENCE, TestBus, consume, drained, eventually, handler, take_dead_letter},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::rabbitmq::{ALL, QUEUE, Seen, behind_proxy, collecting, is_up, message};

/// The connection is lost more often than a message may crash its consumer, while it is handled and while it waits for its
/// turn. The process lives, so nothing crashed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_count_as_no_crash() {
    let bed = TestBus::fast().await;
    let (proxy, bus) = behind_proxy(&bed, |_| {}).await;
    let gate = Arc::new(Semaphore::new(0));
    let (seen, begun) = (Seen::default(), Arc::new(AtomicU32::new(0)));
    let waiting = {
        let (gate, seen, begun) = (Arc::clone(&gate), Arc::clone(&seen), Arc::clone(&begun));
        handler(move |delivery: Delivery| {
            let (gate, seen) = (Arc::clone(&gate), Arc::clone(&seen));
            begun.fetch_add(1, Ordering::SeqCst);
            async move {
                let _open = gate.acquire().await.unwrap();
                seen.lock().insert(delivery.id.to_string());
                Disposition::DONE
            }
        })
    };
    let consuming = consume(&bus, ALL, waiting);
    for n in 0..3 {
        bus.publish(message(n)).await.unwrap();
    }
    eventually("all are begun", || async { begun.load(Ordering::SeqCst) == 3 }).await;
    for _ in 0..4 {
        proxy.cut();
        eventually("it is down", || async { !is_up(&bus).await }).await;
        eventually("it is up again", || is_up(&bus)).await;
    }
    gate.add_permits(1);
    eventually("all are handled", || async { seen.lock().len() == 3 }).await;
    drained(bus.as_ref(), QUEUE).await;
    assert_eq!(bus.dead_letter_depth().await, Ok(0));
    consuming.stop().await;
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_earlier_build_are_emptied_and_deleted() {
    let bed = TestBus::fast().await;
    bed.bus().await.close().await;
    let channel = bed.channel().await;
    let name = |name: &str| format!("{}.{name}", bed.prefix());
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let (work, delay, dead) = (name("card-actions"), name("delay.50ms"), name("dead-letters"));
    for (queue, exchange, key) in [
        (&work, name("events"), "card.action.*"),
        (&work, name("back"), "*.card-actions"),
        (&delay, name("retry"), "50ms.*"),
        (&dead, name("dead"), "#"),
    ] {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(5));
        channel.queue_declare(queue.as_str().into(), durable, arguments).await.unwrap();
        let options = QueueBindOptions::default();
        channel
            .queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                key.into(),
                options,
                FieldTable::default(),
            )
            .await
            .unwrap();
    }
    let publish = async |exchange: &str, key: &str, id: &str, headers: &[(&str, &str)]| {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let properties = BasicProperties::default()
            .with_message_id(id.into())
            .with_type("test.v1".into())
            .with_headers(table);
        let (exchange, key) = (exchange.into(), key.into());
        channel
            .basic_publish(exchange, key, Default::default(), b"{}", properties)
            .await
            .unwrap()
            .await
            .unwrap();
    };
    publish("", &work, "waiting", &[("x-larkauth-routing-key", "card.action.triggered")]).await;
    // Without a time to live it would wait for ever.
    publish(&name("retry"), "50ms.card-actions", "delayed", &[]).await;
    let record = [("x-larkauth-queue", "card-actions"), ("x-larkauth-reason", "of no known type")];
    publish("", &dead, "dead", &record).await;

    let bus = bed.bus().await;
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);
    let letter = take_dead_letter(bus.as_ref()).await;
    assert_eq!((letter.id.as_str(), letter.queue.as_deref()), ("dead", Some("card-actions")));
    assert_eq!(letter.reason.as_deref(), Some("of no known type"));
    assert_eq!(bus.depth(Queue::DeadLetterNotices).await, Ok(0), "a moved dead letter ends no session");
    eventually("the messages are moved", || async {
        let seen = seen.lock();
        seen.contains("waiting") && seen.contains("delayed")
    })
    .await;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    for queue in [&work, &delay, &dead] {
        eventually("the old queue is gone", || async {
            let channel = bed.channel().await;
            channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await.is_err()
        })
        .await;
    }
    consuming.stop().await;
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reply_awaited_on_lost_connection_ends_at_once() {
    let bed = TestBus::fast().await;
    let (proxy, bus) = behind_proxy(&bed, |_| {}).await;
    let mut pending = bus.request(message("asked")).await.unwrap();
    proxy.down();
    let started = Instant::now();
    assert_eq!(pending.wait(PATIENCE).await, None);
    assert!(started.elapsed() < PATIENCE / 2, "the wait lasted {:?}", started.elapsed());
    assert!(!is_up(&bus).await, "the connection is not replaced");
    proxy.resume();
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);
    eventually("it is handled", || async { seen.lock().contains("event-asked") }).await;
    drained(bus.as_ref(), QUEUE).await;
    consuming.stop().await;
    bus.close().await;
    bed.teardown().await;
}
