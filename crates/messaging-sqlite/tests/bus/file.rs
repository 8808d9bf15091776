//! Properties of the file: its schema, limits, locks, leases, metrics, indexes.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    Bus, BusError, BusHealth, Consume, Delivery, Disposition, Outgoing,
    testing::{PATIENCE, consume, eventually, handler, take_dead_letter},
};
use larkauth_messaging_sqlite::{Backlog, EmbeddedBus, EmbeddedOptions, testing::TestFile};
use larkauth_models::EventId;
use sqlx::{
    SqlitePool, query, query_scalar,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

const QUEUE: Queue = Queue::CardActions;
const ONE: Consume = Consume { queue: QUEUE, concurrency: 1, handler_deadline: PATIENCE };

fn message(id: impl std::fmt::Display) -> Outgoing {
    Outgoing {
        id: EventId::new(format!("event-{id}")).unwrap(),
        routing_key: "card.action.triggered",
        r#type: "test.v1",
        body: "{}".into(),
        headers: BTreeMap::new(),
    }
}

async fn open(file: &TestFile, change: impl FnOnce(&mut EmbeddedOptions)) -> Arc<dyn Bus> {
    let mut options = file.options();
    change(&mut options);
    Arc::new(EmbeddedBus::open(options).await.unwrap())
}

/// Connects to the file as another program does.
fn raw(file: &TestFile) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(file.path()).busy_timeout(PATIENCE);
    SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options)
}

async fn refusal(options: EmbeddedOptions) -> BusError {
    let error = EmbeddedBus::open(options).await.unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

#[tokio::test]
async fn open_of_unusable_file_fails_with_one_line() {
    let file = TestFile::fast().await;
    assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    // Concurrent migrations of a migrated file change nothing.
    let mut again = JoinSet::new();
    for _ in 0..4 {
        let path = file.path();
        again.spawn(async move { EmbeddedBus::migrate(&path).await });
    }
    assert!(again.join_all().await.into_iter().all(|result| result == Ok(())));

    let with = |path: &str| EmbeddedOptions { path: file.path().with_file_name(path), ..file.options() };
    let missing = refusal(with("missing.db")).await;
    assert!(missing.to_string().contains("missing.db cannot be used: it does not exist"), "{missing}");
    assert!(!file.path().with_file_name("missing.db").exists(), "open created the file");

    std::fs::write(file.path().with_file_name("other.db"), "not a database, but a text of some length")
        .unwrap();
    let other = refusal(with("other.db")).await;
    assert!(
        matches!(&other, BusError::Unavailable { message, .. } if message.contains("no SQLite database")),
        "{other}"
    );

    std::fs::write(file.path().with_file_name("empty.db"), "").unwrap();
    let empty = refusal(with("empty.db")).await;
    assert!(matches!(&empty, BusError::Topology(text) if text.contains("larkauth migrate")), "{empty}");

    let db = raw(&file);
    query("update _sqlx_migrations set checksum = x'00' where version = 100").execute(&db).await.unwrap();
    let edited = refusal(file.options()).await;
    assert!(matches!(&edited, BusError::Topology(text) if text.contains("migration 100")), "{edited}");
    assert!(matches!(EmbeddedBus::migrate(&file.path()).await, Err(BusError::Topology(_))));

    query("insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (999999, 'contract tables', true, x'', 0)")
        .execute(&db)
        .await
        .unwrap();
    query("delete from _sqlx_migrations where version = 100").execute(&db).await.unwrap();
    let newer = refusal(file.options()).await;
    assert!(matches!(&newer, BusError::Topology(text) if text.contains("999999")), "{newer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_to_full_queue_is_refused() {
    let file = TestFile::fast().await;
    let bus = open(&file, |options| options.max_length = 2).await;
    // Delayed messages count too.
    bus.publish_later(message(1), QUEUE, Duration::from_millis(1)).await.unwrap();
    bus.publish(message(2)).await.unwrap();
    let refused = bus.publish(message(3)).await;
    assert!(
        matches!(&refused, Err(BusError::Refused { message, .. }) if message.contains("full")),
        "{refused:?}"
    );

    let rejecting = handler(|_| async { Disposition::Dead { reason: "for a test".to_owned(), reply: None } });
    let consuming = consume(&bus, ONE, rejecting);
    eventually("both are dead letters", || async { bus.dead_letter_depth().await == Ok(2) }).await;
    bus.publish(message(4)).await.unwrap();
    let unknown = Outgoing { routing_key: "callback.unrecognized", ..message(5) };
    assert!(matches!(bus.publish(unknown).await, Err(BusError::Refused { .. })));
    // The dead letters are full: the message is retried later.
    let db = raw(&file);
    eventually("it was delivered", || async {
        query_scalar(
            "select exists(select 1 from bus_messages where event_id = 'event-4' and attempt = 1 and deliveries = 0
                           and lease is null and visible_at > published_at + 5000000)",
        )
        .fetch_one(&db)
        .await
        .unwrap()
    })
    .await;
    consuming.stop().await;
    bus.publish(message(6)).await.unwrap();
    let full = bus.requeue_dead_letter(&message(1).id).await;
    assert!(matches!(full, Err(BusError::Refused { .. })), "{full:?}");
    assert_eq!(bus.dead_letter_depth().await, Ok(2));
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_to_queue_that_is_full_by_bytes_is_refused() {
    let file = TestFile::fast().await;
    let size = i64::try_from(message(1).body.len()).unwrap();
    let bus = open(&file, |options| options.max_bytes = 2 * size + 1).await;
    bus.publish_later(message(1), QUEUE, Duration::from_millis(1)).await.unwrap();
    bus.publish(message(2)).await.unwrap();
    let refused = bus.publish(message(3)).await;
    assert!(
        matches!(&refused, Err(BusError::Refused { message, .. }) if message.contains("full")),
        "{refused:?}"
    );

    let rejecting = handler(|_| async { Disposition::Dead { reason: "for a test".to_owned(), reply: None } });
    let consuming = consume(&bus, ONE, rejecting);
    eventually("both are dead letters", || async { bus.dead_letter_depth().await == Ok(2) }).await;
    consuming.stop().await;
    bus.publish(message(4)).await.unwrap();
    bus.publish(message(5)).await.unwrap();
    let full = bus.requeue_dead_letter(&message(1).id).await;
    assert!(matches!(full, Err(BusError::Refused { .. })), "{full:?}");
    assert_eq!(bus.drop_dead_letter(&message(1).id).await, Ok(true));
    let db = raw(&file);
    let counted: Vec<(String, i64)> = sqlx::query_as(
        "select place, bytes from bus_lengths where place <> 'probe' and bytes <> 0 order by place",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    let summed: Vec<(String, i64)> =
        sqlx::query_as("select place, sum(length(body)) from bus_messages group by place order by place")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(counted, summed);
    bus.close().await;
}

#[tokio::test]
async fn backlog_with_delayed_messages_counts_them() {
    let file = TestFile::fast().await;
    let bus = file.bus().await;
    bus.publish(message(1)).await.unwrap();
    bus.publish_later(message(2), Queue::CardFaces, Duration::from_secs(3600)).await.unwrap();
    bus.publish(Outgoing { routing_key: "callback.unrecognized", ..message(3) }).await.unwrap();
    bus.close().await;
    assert_eq!(EmbeddedBus::backlog(&file.path()).await.unwrap(), Backlog { queued: 2, dead: 1 });
    let missing = EmbeddedBus::backlog(&file.path().with_file_name("none.db")).await.unwrap_err();
    assert!(missing.to_string().contains("does not exist"), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_of_running_handler_is_renewed() {
    let file = TestFile::fast().await;
    let bus = open(&file, |options| options.lease = Duration::from_millis(1500)).await;
    let gate = Arc::new(Semaphore::new(0));
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    let opened = Arc::clone(&gate);
    let slow = handler(move |delivery: Delivery| {
        sender.send(delivery.redelivered).unwrap();
        let gate = Arc::clone(&opened);
        async move {
            gate.acquire().await.unwrap().forget();
            Disposition::DONE
        }
    });
    let consumers = [consume(&bus, ONE, Arc::clone(&slow)), consume(&bus, ONE, slow)];
    bus.publish(message(1)).await.unwrap();
    let db = raw(&file);
    let ends = parking_lot::Mutex::new(std::collections::BTreeSet::new());
    eventually("the lease is renewed four times", || async {
        let end: i64 = query_scalar("select visible_at from bus_messages").fetch_one(&db).await.unwrap();
        let mut ends = ends.lock();
        ends.insert(end);
        ends.len() == 5
    })
    .await;
    gate.add_permits(1);
    eventually("it is done", || async { bus.depth(QUEUE).await == Ok(0) }).await;
    for consuming in consumers {
        consuming.stop().await;
    }
    assert_eq!(
        (deliveries.recv().await, deliveries.recv().await),
        (Some(false), None),
        "another consumer got it meanwhile"
    );
    bus.close().await;
    file.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_file_is_reported_down_until_unlocked() {
    let file = TestFile::fast().await;
    let bus = open(&file, |options| options.publish_deadline = Duration::from_millis(500)).await;
    let mut health = bus.health();
    let locked = raw(&file).begin_with("begin immediate").await.unwrap();
    assert!(matches!(bus.publish(message(1)).await, Err(BusError::Unavailable { .. })));
    let down = tokio::time::timeout(PATIENCE, health.wait_for(|health| *health != BusHealth::Up)).await;
    assert!(matches!(&*down.unwrap().unwrap(), BusHealth::Down { reason } if reason.contains("locked")));
    // Reads do not wait for the lock.
    assert_eq!(bus.depth(QUEUE).await, Ok(0));
    locked.rollback().await.unwrap();
    // The maintenance finds the file unlocked without a call.
    tokio::time::timeout(PATIENCE, health.wait_for(|health| *health == BusHealth::Up))
        .await
        .unwrap()
        .unwrap();
    bus.publish(message(2)).await.unwrap();
    let (sender, mut deliveries) = mpsc::unbounded_channel();
    let recording = handler(move |delivery: Delivery| {
        sender.send(delivery.id).unwrap();
        async { Disposition::DONE }
    });
    let consuming = consume(&bus, ONE, recording);
    assert_eq!(deliveries.recv().await, Some(message(2).id), "a failed publish was delivered");
    consuming.stop().await;
    bus.close().await;
    file.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_publishes_and_dispositions() {
    let file = TestFile::fast().await;
    let options = file.options();
    let metrics = options.metrics.clone();
    let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::open(options).await.unwrap());
    let retrying = handler(|delivery: Delivery| async move {
        match delivery.id.as_str() {
            "event-2" if delivery.attempt == 1 => {
                Disposition::Retry { after: None, reason: "once more".to_owned() }
            }
            "event-3" => Disposition::Dead { reason: "for a test".to_owned(), reply: None },
            _ => Disposition::DONE,
        }
    });
    let consuming = consume(&bus, ONE, retrying);
    for n in 1..=3 {
        bus.publish(message(n)).await.unwrap();
    }
    assert!(bus.publish(Outgoing { routing_key: "no.such.key", ..message(4) }).await.is_err());
    for line in [
        "lark_service_bus_up 1",
        r#"lark_service_bus_publish_total{outcome="confirmed"} 3"#,
        r#"lark_service_bus_publish_total{outcome="refused"} 1"#,
        r#"lark_service_bus_consumed_total{outcome="done",queue="card-actions"} 2"#,
        r#"lark_service_bus_consumed_total{outcome="retry",queue="card-actions"} 1"#,
        r#"lark_service_bus_retries_total{queue="card-actions"} 1"#,
        r#"lark_service_bus_dead_letters_total{queue="card-actions",reason="refused"} 1"#,
        r#"lark_service_bus_lag_seconds_count{queue="card-actions"} 3"#,
    ] {
        eventually(line, || async { metrics.render().lines().any(|found| found == line) }).await;
    }
    take_dead_letter(bus.as_ref()).await;
    consuming.stop().await;
    bus.close().await;
    assert!(metrics.render().lines().any(|line| line == "lark_service_bus_up 0"));
    file.teardown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_use_their_indexes() {
    let file = TestFile::fast().await;
    let db = raw(&file);
    for (sql, index) in [
        (
            "select seq from bus_messages where place = 'x' and visible_at <= 1 and lease is null order by visible_at, seq limit 1",
            "bus_messages_by_visibility",
        ),
        (
            "select min(visible_at) from bus_messages where place = 'x' and visible_at > 1",
            "bus_messages_by_visibility",
        ),
        (
            "select count(*) from bus_messages where place = 'x' and visible_at <= 1",
            "bus_messages_by_visibility",
        ),
        (
            "select seq from bus_messages where +place = 'x' and visible_at <= 1 and lease is not null
             order by deliveries, visible_at, seq limit 1",
            "bus_messages_leased",
        ),
        (
            "select min(visible_at) from bus_messages where lease is not null and +place = 'x'",
            "bus_messages_leased",
        ),
        (
            "select seq from bus_messages where place = 'dead-letters' and event_id = 'x' order by visible_at, seq limit 1",
            "bus_messages_dead_by_event",
        ),
    ] {
        let explain = sqlx::AssertSqlSafe(format!("explain query plan {sql}"));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain).fetch_all(&db).await.unwrap();
        assert!(plan.iter().any(|step| step.3.contains(index)), "{sql}: {plan:?}");
    }
}
