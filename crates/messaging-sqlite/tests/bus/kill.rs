//! A process is killed at random moments: no confirmed message is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    Bus, Consume, Delivery, Disposition, Outgoing,
    testing::{PATIENCE, consume, eventually, handler},
};
use larkauth_messaging_sqlite::{EmbeddedBus, EmbeddedOptions, testing::TestFile};
use larkauth_models::{Entropy, EventId, OsEntropy};
use larkauth_telemetry::Metrics;
use parking_lot::Mutex;
use sqlx::{SqlitePool, query_scalar, sqlite::SqliteConnectOptions};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

const FILE: &str = "LARKAUTH_TEST_CRASH_FILE";
const ROUND: &str = "LARKAUTH_TEST_CRASH_ROUND";
const CONSUME: &str = "LARKAUTH_TEST_CRASH_CONSUME";
const ALL: Consume = Consume { queue: Queue::CardActions, concurrency: 8, handler_deadline: PATIENCE };

fn message(id: impl std::fmt::Display) -> Outgoing {
    Outgoing {
        id: EventId::new(format!("event-{id}")).unwrap(),
        routing_key: "card.action.triggered",
        r#type: "test.v1",
        body: "{}".into(),
        headers: BTreeMap::new(),
    }
}

async fn open(path: &Path) -> Arc<dyn Bus> {
    let lease = Duration::from_millis(300);
    let options = EmbeddedOptions { lease, ..EmbeddedOptions::new(path, Metrics::new().unwrap()) };
    Arc::new(EmbeddedBus::open(options).await.unwrap())
}

/// Writes past the test harness and unbuffered, so that a kill loses no line.
fn say(what: &str, id: &EventId) {
    std::io::stdout().lock().write_all(format!("{what} {id}\n").as_bytes()).unwrap();
}

/// The process that is killed; nothing without its environment variables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the other tests, as a process of its own"]
async fn publish_for_ever() {
    let Ok(path) = std::env::var(FILE) else { return };
    let round = std::env::var(ROUND).unwrap();
    let bus = open(Path::new(&path)).await;
    let recording = handler(|delivery: Delivery| async move {
        say("handled", &delivery.id);
        Disposition::DONE
    });
    let consuming = std::env::var(CONSUME).is_ok().then(|| consume(&bus, ALL, recording));
    let mut publishers = JoinSet::new();
    for publisher in 0..4 {
        let (bus, round) = (Arc::clone(&bus), round.clone());
        publishers.spawn(async move {
            for n in 0.. {
                let message = message(format_args!("{round}-{publisher}-{n}"));
                let id = message.id.clone();
                bus.publish(message).await.unwrap();
                say("confirmed", &id);
            }
        });
    }
    publishers.join_all().await;
    drop(consuming);
}

fn start(path: &Path, round: u32, consuming: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "kill::publish_for_ever", "--nocapture"])
        .env(FILE, path)
        .env(ROUND, round.to_string());
    if consuming {
        command.env(CONSUME, "1");
    }
    command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

#[derive(Default)]
struct Reported {
    confirmed: BTreeSet<String>,
    handled: BTreeSet<String>,
}

/// Lets it run for a moment after its first confirm, kills it, and reads what it reported.
async fn kill_after(mut child: Child, moment: Duration, reported: &mut Reported) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut read = async |reported: &mut Reported| {
        while let Some(line) = lines.next_line().await.unwrap() {
            match line.split_once(' ') {
                Some(("confirmed", id)) => {
                    reported.confirmed.insert(id.to_owned());
                    return true;
                }
                Some(("handled", id)) => _ = reported.handled.insert(id.to_owned()),
                _ => {}
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, read(reported)).await.unwrap(), "it ended by itself");
    // Reading continues meanwhile, so that the pipe does not fill up.
    let deadline = tokio::time::Instant::now() + moment;
    while tokio::time::timeout_at(deadline, read(reported)).await.is_ok() {}
    child.start_kill().unwrap();
    while read(reported).await {}
    assert!(!child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_at_random_moments_loses_no_confirmed_message() {
    let file = TestFile::fast().await;
    let mut reported = Reported::default();
    for round in 0..20 {
        let moment = Duration::from_secs_f64(0.2 * OsEntropy.fraction());
        kill_after(start(&file.path(), round, round % 4 != 0), moment, &mut reported).await;
    }
    assert!(
        reported.confirmed.len() > 100 && !reported.handled.is_empty(),
        "{} confirmed",
        reported.confirmed.len()
    );

    let db = SqlitePool::connect_with(SqliteConnectOptions::new().filename(file.path())).await.unwrap();
    let sound: String = query_scalar("pragma integrity_check").fetch_one(&db).await.unwrap();
    assert_eq!(sound, "ok");
    let seen = Arc::new(Mutex::new(reported.handled));
    let bus = open(&file.path()).await;
    let seeing = Arc::clone(&seen);
    let collecting = handler(move |delivery: Delivery| {
        seeing.lock().insert(delivery.id.to_string());
        async { Disposition::DONE }
    });
    let consuming = consume(&bus, ALL, collecting);
    eventually("the queues are empty", || async {
        let left = query_scalar::<_, i64>("select count(*) from bus_messages where place <> 'dead-letters'");
        left.fetch_one(&db).await.unwrap() == 0
    })
    .await;
    consuming.stop().await;
    // A message that was delivered before three kills in a row is a dead letter, which is not lost.
    let dead: Vec<_> = bus.dead_letters(1000).await.unwrap();
    seen.lock().extend(dead.iter().map(|letter| letter.id.to_string()));
    let lost: Vec<_> = reported.confirmed.difference(&seen.lock()).cloned().collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), reported.confirmed.len());
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_of_another_processs_messages_finds_them() {
    let file = TestFile::fast().await;
    let bus = open(&file.path()).await;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let seeing = Arc::clone(&seen);
    let collecting = handler(move |delivery: Delivery| {
        seeing.lock().insert(delivery.id.to_string());
        async { Disposition::Done { reply: Some("no caller in this process".into()) } }
    });
    let consuming = consume(&bus, ALL, collecting);
    let mut reported = Reported::default();
    kill_after(start(&file.path(), 0, false), Duration::from_millis(100), &mut reported).await;
    eventually("all were delivered", || async { seen.lock().is_superset(&reported.confirmed) }).await;
    consuming.stop().await;
    bus.close().await;
    file.teardown().await;
}
