//! Failures of a broker behind a network: lost and silent connections, refusals, a topology with other properties.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    Bus, BusError, BusHealth, Consume, Delivery, Disposition, Outgoing, RabbitMq, RabbitMqOptions,
    testing::{PATIENCE, TcpProxy, TestBus, consume, drained, eventually, handler},
};
use larkauth_models::EventId;
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::Instant};

pub(crate) const QUEUE: Queue = Queue::CardActions;
pub(crate) const ALL: Consume = Consume { queue: QUEUE, concurrency: 8, handler_deadline: PATIENCE };

pub(crate) fn message(id: impl std::fmt::Display) -> Outgoing {
    Outgoing {
        id: EventId::new(format!("event-{id}")).unwrap(),
        routing_key: "card.action.triggered",
        r#type: "test.v1",
        body: "{}".into(),
        headers: BTreeMap::new(),
    }
}

/// Connects a bus through a proxy that can interrupt the connection.
pub(crate) async fn behind_proxy(
    bed: &TestBus,
    change: impl FnOnce(&mut RabbitMqOptions),
) -> (TcpProxy, Arc<dyn Bus>) {
    // Declaring the queues takes longer than some deadlines to connect.
    bed.bus().await.close().await;
    let proxy = TcpProxy::start(bed.target()).await;
    let mut options = bed.options();
    options.url = bed.url_through(proxy.address()).into();
    options.publish_deadline = Duration::from_secs(1);
    change(&mut options);
    let bus = RabbitMq::connect(options).await.unwrap();
    (proxy, Arc::new(bus))
}

pub(crate) async fn is_up(bus: &Arc<dyn Bus>) -> bool {
    *bus.health().borrow() == BusHealth::Up
}

pub(crate) type Seen = Arc<Mutex<BTreeSet<String>>>;

pub(crate) fn collecting() -> (Arc<dyn larkauth_messaging::Handler>, Seen) {
    let seen = Seen::default();
    let collected = Arc::clone(&seen);
    let handler = handler(move |delivery: Delivery| {
        let new = collected.lock().insert(delivery.id.to_string());
        async move {
            // Half of them are retried once, so that forwarding is interrupted too.
            if new && delivery.id.as_str().ends_with(['0', '2', '4', '6', '8']) {
                return Disposition::Retry { after: None, reason: "once more".to_owned() };
            }
            Disposition::DONE
        }
    });
    (handler, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_across_lost_connections_confirms_only_delivered_messages() {
    let bed = TestBus::fast().await;
    let (proxy, bus) = behind_proxy(&bed, |_| {}).await;
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);

    let mut confirmed = BTreeSet::new();
    let mut failures = 0;
    for round in 0..3 {
        let mut publishes = JoinSet::new();
        for n in 0..200 {
            let bus = Arc::clone(&bus);
            publishes.spawn(async move {
                let message = message(format_args!("{round}-{n}"));
                (message.id.to_string(), bus.publish(message).await)
            });
        }
        let mut done = 0;
        while let Some(result) = publishes.join_next().await {
            match result.unwrap() {
                (id, Ok(())) => {
                    confirmed.insert(id);
                }
                (_, Err(BusError::Unavailable { .. })) => failures += 1,
                (_, Err(error)) => panic!("{error}"),
            }
            done += 1;
            if done == 50 {
                proxy.cut();
            }
        }
        eventually("it reconnects", || is_up(&bus)).await;
    }
    assert!(failures > 0 && confirmed.len() > 100, "{failures} failures, {} confirmed", confirmed.len());
    eventually("all confirmed messages were delivered", || async { seen.lock().is_superset(&confirmed) })
        .await;
    drained(bus.as_ref(), QUEUE).await;
    tokio::time::timeout(PATIENCE, consuming.stop()).await.unwrap();
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_on_half_open_connection_fails_within_deadline() {
    let bed = TestBus::fast().await;
    let (proxy, bus) = behind_proxy(&bed, |options| options.connect_deadline = Duration::from_secs(2)).await;
    bus.publish(message(1)).await.unwrap();
    proxy.pause();
    let started = Instant::now();
    assert!(matches!(bus.publish(message(2)).await, Err(BusError::Unavailable { .. })));
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    eventually("it is down", || async { !is_up(&bus).await }).await;

    // The bus is known to be down: a publish fails before its deadline, and silent new connections are given up too.
    let started = Instant::now();
    assert!(matches!(bus.publish(message(3)).await, Err(BusError::Unavailable { .. })));
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    tokio::time::timeout(Duration::from_secs(4), bus.health().wait_for(|health| *health == BusHealth::Up))
        .await
        .expect_err("it cannot be up");

    // Bytes held on the old connection are lost, and are not delivered after the consumer has ended.
    proxy.cut();
    proxy.resume();
    eventually("it is up again", || is_up(&bus)).await;
    bus.publish(message(4)).await.unwrap();
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);
    eventually("both were delivered", || async { seen.lock().contains("event-4") }).await;
    assert!(seen.lock().contains("event-1"));
    drained(bus.as_ref(), QUEUE).await;
    // The broker holds the half-open consumer's messages until it notices, too.
    consuming.stop().await;
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_on_half_open_connection_continues_after_reconnect() {
    let bed = TestBus::fast().await;
    let (proxy, bus) = behind_proxy(&bed, |options| options.heartbeat = Duration::from_secs(1)).await;
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);
    proxy.pause();
    eventually("it is down", || async { !is_up(&bus).await }).await;
    let publisher = bed.bus().await;
    publisher.publish(message(1)).await.unwrap();
    proxy.resume();
    eventually("consuming continues", || async { seen.lock().contains("event-1") }).await;
    consuming.stop().await;
    bus.close().await;
    publisher.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_counts_those_of_all_processes() {
    let bed = TestBus::fast().await;
    let (watching, one, two) = (bed.bus().await, bed.bus().await, bed.bus().await);
    assert_eq!(watching.consumers(QUEUE).await, Ok(Some(0)));
    let (handler, _) = collecting();
    let consuming = [consume(&one, ALL, handler.clone()), consume(&two, ALL, handler)];
    eventually("both are counted", || async { watching.consumers(QUEUE).await == Ok(Some(2)) }).await;
    for consuming in consuming {
        consuming.stop().await;
    }
    eventually("none is left", || async { watching.consumers(QUEUE).await == Ok(Some(0)) }).await;
    for bus in [watching, one, two] {
        bus.close().await;
    }
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bus_after_broker_restart_reconnects_and_consumes() {
    let bed = TestBus::fast().await;
    let (proxy, bus) = behind_proxy(&bed, |_| {}).await;
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);
    let mut pending = bus.request(message("asked")).await.unwrap();
    proxy.down();
    eventually("it is down", || async { !is_up(&bus).await }).await;
    assert_eq!(pending.wait(PATIENCE).await, None, "a reply arrived over a lost connection");
    assert!(matches!(bus.publish(message("lost")).await, Err(BusError::Unavailable { .. })));
    assert!(matches!(bus.depth(QUEUE).await, Err(BusError::Unavailable { .. })));
    proxy.resume();
    eventually("it is up again", || is_up(&bus)).await;
    bus.publish(message("found")).await.unwrap();
    eventually("both were delivered", || async {
        let seen = seen.lock();
        seen.contains("event-asked") && seen.contains("event-found")
    })
    .await;
    assert!(!seen.lock().contains("event-lost"));
    drained(bus.as_ref(), QUEUE).await;
    consuming.stop().await;
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_of_deleted_queue_declares_it_again() {
    let bed = TestBus::fast().await;
    let bus = bed.bus().await;
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);
    bus.publish(message(1)).await.unwrap();
    eventually("it consumes", || async { seen.lock().contains("event-1") }).await;
    let queue = bed.queue_name(QUEUE);
    bed.channel().await.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
    eventually("it can be published to again", || async { bus.publish(message(3)).await.is_ok() }).await;
    eventually("it consumes again", || async { seen.lock().contains("event-3") }).await;
    consuming.stop().await;
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_of_unreadable_message_moves_it_to_dead_letters() {
    let bed = TestBus::fast().await;
    let bus = bed.bus().await;
    let exchange = format!("{}.events", bed.prefix());
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);
    bed.channel()
        .await
        .basic_publish(
            exchange.as_str().into(),
            "card.action.triggered".into(),
            Default::default(),
            b"\xff\x00 foreign",
            Default::default(),
        )
        .await
        .unwrap()
        .await
        .unwrap();
    let letter = bed.dead_letter().await;
    assert!(letter.id.as_str().starts_with("unnamed-"), "{}", letter.id);
    assert_eq!(&letter.body[..], b"\xff\x00 foreign");
    assert_eq!(
        (letter.queue.as_deref(), letter.reason.as_deref()),
        (Some("card-actions"), Some("it has no message_id"))
    );
    assert!(seen.lock().is_empty());
    consuming.stop().await;
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_to_unreachable_broker_fails_with_one_line() {
    let bed = TestBus::fast().await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut options = bed.options();
    options.url = format!("amqp://someone:secret-word@{closed}/%2f").into();
    options.connect_deadline = Duration::from_millis(500);
    assert!(!format!("{options:?}").contains("secret-word"));
    let started = Instant::now();
    let error = RabbitMq::connect(options).await.unwrap_err().to_string();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(error.contains("AMQP_URL") && !error.contains("secret-word") && !error.contains('\n'), "{error}");
    assert!(error.contains("refused"), "{error}");

    // A broker that accepts the connection and stays silent.
    let proxy = TcpProxy::start(bed.target()).await;
    proxy.pause();
    let mut options = bed.options();
    options.url = bed.url_through(proxy.address()).into();
    options.connect_deadline = Duration::from_millis(500);
    let error = RabbitMq::connect(options).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_lazily_without_broker_connects_when_it_comes() {
    let bed = TestBus::fast().await;
    let proxy = TcpProxy::start(bed.target()).await;
    proxy.down();
    let mut options = bed.options();
    options.url = bed.url_through(proxy.address()).into();
    options.publish_deadline = Duration::from_secs(1);
    let wrong = RabbitMqOptions { url: "amqp:no-address".to_owned().into(), ..options.clone() };
    assert!(RabbitMq::connect_lazily(wrong).is_err());
    let closed_early = RabbitMq::connect_lazily(options.clone()).unwrap();
    tokio::time::timeout(PATIENCE, closed_early.close()).await.unwrap();

    let bus: Arc<dyn Bus> = Arc::new(RabbitMq::connect_lazily(options).unwrap());
    let (handler, seen) = collecting();
    let consuming = consume(&bus, ALL, handler);
    assert!(!is_up(&bus).await);
    let error = bus.publish(message(1)).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable { .. }), "{error}");
    proxy.resume();
    eventually("the bus is up", async || is_up(&bus).await).await;
    bus.publish(message(3)).await.unwrap();
    eventually("the message is handled", async || seen.lock().contains("event-3")).await;
    consuming.stop().await;
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_with_wrong_password_fails_at_once() {
    let bed = TestBus::fast().await;
    let mut options = bed.options();
    options.url = format!("amqp://guest:secret-word@{}/%2f", bed.target()).into();
    let started = Instant::now();
    let error = RabbitMq::connect(options).await.unwrap_err().to_string();
    assert!(started.elapsed() < PATIENCE / 2, "it was retried");
    assert!(
        error.contains("ACCESS_REFUSED") && !error.contains("secret-word") && !error.contains('\n'),
        "{error}"
    );

    let mut options = bed.options();
    options.url = "not-an-address secret-word".to_owned().into();
    let error = RabbitMq::connect(options).await.unwrap_err().to_string();
    assert!(error.contains("amqp://user:password@host") && !error.contains("secret-word"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_with_other_topology_names_it_and_changes_nothing() {
    let bed = TestBus::fast().await;
    let queue = bed.queue_name(QUEUE);
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    let classic = async || {
        bed.channel().await.queue_declare(queue.as_str().into(), durable, Default::default()).await.unwrap();
    };
    let delete = async || {
        bed.channel().await.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
    };
    classic().await;
    let error = RabbitMq::connect(bed.options()).await.unwrap_err();
    assert!(matches!(&error, BusError::Topology(text) if text.contains(&queue)), "{error}");
    assert!(!error.to_string().contains('\n'));

    // After a reconnect, consumers end, because waiting does not correct it; the bus recovers once an operator has.
    delete().await;
    let (proxy, bus) = behind_proxy(&bed, |_| {}).await;
    proxy.down();
    delete().await;
    classic().await;
    proxy.resume();
    let (handler, _) = collecting();
    let ended = consume(&bus, ALL, handler).ended().await;
    assert!(matches!(&ended, Err(BusError::Topology(text)) if text.contains(&queue)), "{ended:?}");
    eventually("publishing says so, too", || async {
        matches!(bus.publish(message(1)).await, Err(BusError::Topology(_)))
    })
    .await;
    delete().await;
    eventually("it is up again", || is_up(&bus)).await;
    bus.close().await;
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_publishes_and_dispositions() {
    let bed = TestBus::fast().await;
    let options = bed.options();
    let metrics = options.metrics.clone();
    let bus: Arc<dyn Bus> = Arc::new(RabbitMq::connect(options).await.unwrap());
    let (handler, _) = collecting();
    let consuming = consume(&bus, ALL, handler);
    bus.publish(message(1)).await.unwrap();
    bus.publish(message(2)).await.unwrap();
    assert!(bus.publish(Outgoing { routing_key: "no.such.key", ..message(3) }).await.is_err());
    for line in [
        "lark_service_bus_up 1",
        r#"lark_service_bus_publish_total{outcome="refused"} 1"#,
        r#"lark_service_bus_consumed_total{outcome="done",queue="card-actions"} 2"#,
        r#"lark_service_bus_consumed_total{outcome="retry",queue="card-actions"} 1"#,
        r#"lark_service_bus_retries_total{queue="card-actions"} 1"#,
        r#"lark_service_bus_lag_seconds_count{queue="card-actions"} 2"#,
    ] {
        eventually(line, || async { metrics.render().lines().any(|found| found == line) }).await;
    }
    consuming.stop().await;
    bus.close().await;
    assert!(metrics.render().lines().any(|line| line == "lark_service_bus_up 0"));
    bed.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remove_topology_deletes_all_queues() {
    let bed = TestBus::fast().await;
    let bus = bed.bus().await;
    bus.publish(message(1)).await.unwrap();
    bus.close().await;
    RabbitMq::remove_topology(bed.options()).await.unwrap();
    let passive = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
    for name in ["card-actions.v2", "card-actions.isolated.v2", "dead-letters.v2", "delay.50ms.v2"] {
        let queue = format!("{}.{name}", bed.prefix());
        let found =
            bed.channel().await.queue_declare(queue.as_str().into(), passive, Default::default()).await;
        assert!(found.is_err(), "{queue}");
    }
    bed.teardown().await;
}
