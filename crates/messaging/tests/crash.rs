//! A process is killed in the middle of it, many times; nothing that was confirmed is lost.
#![expect(clippy::unwrap_used, reason = "for tests: a failure is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    Bus, Consume, Delivery, Disposition, EmbeddedBus, EmbeddedOptions, Outgoing,
    testing::{PATIENCE, TestFile, consume, eventually, handler},
};
use larkauth_models::{Entropy, EventId, OsEntropy};
use larkauth_telemetry::Metrics;
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

/// Past the test harness, and at once: what the parent reads is true even if this process is killed now.
fn say(what: &str, id: &EventId) {
    std::io::stdout().lock().write_all(format!("{what} {id}\n").as_bytes()).unwrap();
}

/// The process that is killed. It does nothing unless told where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the other tests, as a process of its own"]
async fn child() {
    let Ok(path) = std::env::var(FILE) else { return };
    let round = std::env::var(ROUND).unwrap();
    let bus = open(Path::new(&path)).await;
    let telling = handler(|delivery: Delivery| async move {
        say("handled", &delivery.id);
        Disposition::DONE
    });
    let consuming = std::env::var(CONSUME).is_ok().then(|| consume(&bus, ALL, telling));
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
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(FILE, path)
        .env(ROUND, round.to_string());
    if consuming {
        command.env(CONSUME, "1");
    }
    command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

#[derive(Default)]
struct Told {
    confirmed: BTreeSet<String>,
    handled: BTreeSet<String>,
}

/// Lets it work for a moment after its first confirm, kills it, and gives what it said.
async fn kill_after(mut child: Child, moment: Duration, told: &mut Told) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut read = async |told: &mut Told| {
        while let Some(line) = lines.next_line().await.unwrap() {
            match line.split_once(' ') {
                Some(("confirmed", id)) => {
                    told.confirmed.insert(id.to_owned());
                    return true;
                }
                Some(("handled", id)) => _ = told.handled.insert(id.to_owned()),
                _ => {}
            }
        }
        false
    };
    assert!(tokio::time::timeout(PATIENCE, read(told)).await.unwrap(), "it ended by itself");
    // It goes on meanwhile; the pipe must not fill up.
    let deadline = tokio::time::Instant::now() + moment;
    while tokio::time::timeout_at(deadline, read(told)).await.is_ok() {}
    child.start_kill().unwrap();
    while read(told).await {}
    assert!(!child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_confirmed_is_lost() {
    let file = TestFile::fast().await;
    let mut told = Told::default();
    for round in 0..20 {
        let moment = Duration::from_secs_f64(0.2 * OsEntropy.fraction());
        kill_after(start(&file.path(), round, round % 4 != 0), moment, &mut told).await;
    }
    assert!(told.confirmed.len() > 100 && !told.handled.is_empty(), "{} confirmed", told.confirmed.len());

    let db = SqlitePool::connect_with(SqliteConnectOptions::new().filename(file.path())).await.unwrap();
    let sound: String = query_scalar("pragma integrity_check").fetch_one(&db).await.unwrap();
    assert_eq!(sound, "ok");
    let seen = Arc::new(Mutex::new(told.handled));
    let bus = open(&file.path()).await;
    let seeing = Arc::clone(&seen);
    let collecting = handler(move |delivery: Delivery| {
        seeing.lock().unwrap().insert(delivery.id.to_string());
        async { Disposition::DONE }
    });
    let consuming = consume(&bus, ALL, collecting);
    eventually("nothing is left", || async {
        let left = query_scalar::<_, i64>("select count(*) from bus_messages where place <> 'dead-letters'");
        left.fetch_one(&db).await.unwrap() == 0
    })
    .await;
    consuming.stop().await;
    // A message that was in hand in three kills in a row is dead, which is not lost.
    let dead: Vec<_> = bus.dead_letters(1000).await.unwrap();
    seen.lock().unwrap().extend(dead.iter().map(|letter| letter.id.to_string()));
    let lost: Vec<_> = told.confirmed.difference(&seen.lock().unwrap()).cloned().collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), told.confirmed.len());
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_publishes_is_found() {
    let file = TestFile::fast().await;
    let bus = open(&file.path()).await;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let seeing = Arc::clone(&seen);
    let collecting = handler(move |delivery: Delivery| {
        seeing.lock().unwrap().insert(delivery.id.to_string());
        async { Disposition::Done { reply: Some("nobody here asked".into()) } }
    });
    let consuming = consume(&bus, ALL, collecting);
    let mut told = Told::default();
    kill_after(start(&file.path(), 0, false), Duration::from_millis(100), &mut told).await;
    eventually("all have come", || async { seen.lock().unwrap().is_superset(&told.confirmed) }).await;
    consuming.stop().await;
    bus.close().await;
    file.teardown().await;
}
