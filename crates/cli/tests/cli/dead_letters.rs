use std::sync::Arc;

use larkauth_contracts::{
    message::{Envelope, InvitationRequested, SealedText, UnrecognizedCallback},
    topology::Queue,
};
use larkauth_messaging::{
    Bus, Consume, Disposition, Outgoing,
    testing::{TestBus, consume, eventually, handler},
};
use larkauth_messaging_sqlite::{EmbeddedBus, EmbeddedOptions};
use larkauth_models::{AppId, Clock, EventId, ExposeSecret, SessionId, SystemClock};
use larkauth_storage_postgres::testing::TestDatabase;
use larkauth_telemetry::Metrics;

use crate::stage::{APP_ID, Stage, TIMEOUT};

fn app_id() -> AppId {
    AppId::new(APP_ID).unwrap()
}

pub(crate) fn unrecognized(number: u32) -> Outgoing {
    let message = UnrecognizedCallback {
        event_type: "card".to_owned(),
        reason: "no button".to_owned(),
        payload: SealedText("v1.sealed".to_owned()),
    };
    let id = EventId::new(format!("callback:{number}")).unwrap();
    Outgoing::new(&Envelope::new(id, "/larkauth/test", SystemClock.now(), app_id(), message)).unwrap()
}

pub(crate) fn invitation() -> Outgoing {
    let id = EventId::new("invite:1").unwrap();
    let message = InvitationRequested { session_id: SessionId(uuid::Uuid::nil()) };
    Outgoing::new(&Envelope::new(id, "/larkauth/test", SystemClock.now(), app_id(), message)).unwrap()
}

async fn play(stage: &Stage, bus: &Arc<dyn Bus>) {
    for number in 1..=3 {
        bus.publish(unrecognized(number)).await.unwrap();
    }
    let list = stage.run("dead-letters list --limit 2").await.with(0);
    assert_eq!(list.out.lines().count(), 2);
    assert!(list.err.contains("There are more"), "{}", list.err);
    assert!(list.out.lines().all(|line| line.ends_with("no button")), "{}", list.out);

    let shown = stage.run("dead-letters show callback:1").await.with(0);
    assert!(shown.out.contains("\"payload\": \"v1.sealed\""), "{}", shown.out);
    assert!(shown.err.contains("requeueing it cannot succeed"), "{}", shown.err);
    assert_eq!(stage.run("dead-letters show callback:1 --json").await.with(0).json()["id"], "callback:1");
    stage.run("dead-letters show callback:9").await.with(3);

    let dropped = stage.run("dead-letters drop callback:1").await.with(0);
    assert!(dropped.out.contains("1 dropped"), "{}", dropped.out);
    stage.run("dead-letters drop callback:1").await.with(3);

    // A message rejected by its handler returns to its queue. A callback without a handler has none.
    bus.publish(invitation()).await.unwrap();
    let what = Consume { queue: Queue::Invitations, concurrency: 1, handler_deadline: TIMEOUT };
    let deadly = handler(|_| async { Disposition::Dead { reason: "for a test".to_owned(), reply: None } });
    let consuming = consume(bus, what, deadly);
    eventually("it is dead", || async { bus.dead_letter_depth().await.unwrap() == 3 }).await;
    consuming.stop().await;
    let back = stage.run("dead-letters requeue --all --yes").await.with(1);
    assert!(back.out.contains("1 put back") && back.err.contains("callback:2"), "{back:?}");
    assert!(back.err.contains("requeueing it cannot succeed"), "{back:?}");
    eventually("it is back", || async { bus.depth(Queue::Invitations).await.unwrap() == 1 }).await;
    let checks = stage.run("doctor --json").await.with(1).json();
    let check = |name: &str| {
        let checks = checks["checks"].as_array().unwrap();
        checks.iter().find(|check| check["check"] == name).unwrap()["detail"].as_str().unwrap().to_owned()
    };
    // The message that is back, and the notice of its death, which no worker has read.
    assert!(check("broker").contains("messages waiting: 2"), "{checks}");
    assert!(check("dead letters").contains("handled: 2"), "{checks}");

    let unasked = stage.run("dead-letters drop --all").await.with(2);
    assert!(unasked.err.contains("add --yes"), "{}", unasked.err);
    let dropped = stage.run("dead-letters drop --all --yes --json").await.with(0).json();
    assert_eq!(dropped["dropped"].as_array().unwrap().len(), 2);
    let none = stage.run("dead-letters requeue --all --yes").await.with(0);
    assert!(none.out.contains("no dead letter"), "{}", none.out);
    stage.run("dead-letters drop").await.with(2);
}

#[tokio::test]
async fn dead_letters_on_embedded_bus_are_listed_requeued_and_dropped() {
    let stage = Stage::new().await;
    let options = EmbeddedOptions::new(stage.database.path(), Metrics::new().unwrap());
    let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::open(options).await.unwrap());
    play(&stage, &bus).await;
    bus.close().await;
}

#[tokio::test]
async fn dead_letters_on_rabbitmq_are_listed_requeued_and_dropped() {
    let (database, broker) = (TestDatabase::create().await, TestBus::create().await);
    let mut stage = Stage::new().await;
    stage.set("DATABASE_URL", database.url().expose_secret());
    stage.set("AMQP_URL", broker.url());
    stage.set("AMQP_PREFIX", broker.prefix());
    let bus = broker.bus().await;
    play(&stage, &bus).await;

    bus.close().await;
}
