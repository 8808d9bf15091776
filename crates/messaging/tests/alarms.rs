//! A broker that is short of memory or disk, one that boots or stops, and one that closes connections: a private RabbitMQ, whose
//! alarms and errors are real.
#![expect(clippy::unwrap_used, reason = "for tests: a failure is a failed test")]
#![cfg(target_os = "linux")]

use std::{
    collections::BTreeMap,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    Bus, BusError, BusHealth, Consume, Delivery, Disposition, Handler, Outgoing, RabbitMq, RabbitMqOptions,
    testing::{PATIENCE, consume, eventually, handler},
};
use larkauth_models::EventId;
use larkauth_telemetry::Metrics;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
/// Longest start of the broker: the machine may be busy.
const BOOT: Duration = Duration::from_secs(120);
const QUEUE: Queue = Queue::CardActions;
const ALL: Consume = Consume { queue: QUEUE, concurrency: 8, handler_deadline: PATIENCE };

/// A RabbitMQ of its own, below a temporary folder. Dropping it kills it.
struct PrivateBroker {
    folder: TempDir,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    epmd: Child,
    server: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl PrivateBroker {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port, dist_port, epmd_port] = [free_port(), free_port(), free_port()];
        let path = folder.path();
        std::fs::write(path.join("rabbitmq.conf"), format!("listeners.tcp.1 = 127.0.0.1:{port}\n")).unwrap();
        std::fs::write(path.join("enabled_plugins"), "[].").unwrap();
        std::fs::write(path.join("rabbitmq-env.conf"), "").unwrap();
        if is_root() {
            let owned = Command::new("chown").arg("-R").arg("rabbitmq").arg(path).status().unwrap();
            assert!(owned.success());
        }
        let settings = Settings { folder: path, port, dist_port, epmd_port };
        let epmd = settings.command("epmd").process_group(0).spawn().unwrap();
        let mut broker = Self { folder, port, dist_port, epmd_port, epmd, server: None };
        broker.boot();
        broker
    }

    fn settings(&self) -> Settings<'_> {
        let Self { port, dist_port, epmd_port, .. } = *self;
        Settings { folder: self.folder.path(), port, dist_port, epmd_port }
    }

    /// Starts the server, without waiting until it is ready.
    fn boot(&mut self) {
        let server = self.settings().command(&format!("{PROGRAMS}/rabbitmq-server")).process_group(0).spawn();
        self.server = Some(server.unwrap());
    }

    fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            kill_group(server);
        }
    }

    async fn control(&self, arguments: &[&str]) -> String {
        let mut command = self.settings().command(&format!("{PROGRAMS}/rabbitmqctl"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = tokio::task::spawn_blocking(move || command.output());
        let Output { status, stdout, stderr } = run.await.unwrap().unwrap();
        assert!(status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    fn options(&self) -> RabbitMqOptions {
        let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port);
        let mut options = RabbitMqOptions::new(url.into(), "larkauth-test", Metrics::new().unwrap());
        options.connect_deadline = BOOT;
        options
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        self.kill();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
    }
}

/// Kills a shell with the Erlang machine below it.
fn kill_group(mut child: Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    let _ = child.wait();
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

struct Settings<'a> {
    folder: &'a Path,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
}

impl Settings<'_> {
    /// Returns a command in the broker's environment, as a user who is not root.
    fn command(&self, program: &str) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=rabbitmq", "--regid=rabbitmq", "--clear-groups", program]);
            command
        } else {
            Command::new(program)
        };
        let Self { port, dist_port, epmd_port, .. } = self;
        let file = |name: &str| self.folder.join(name);
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("HOME", self.folder)
            .env("LC_ALL", "C.UTF-8")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", epmd_port.to_string())
            .env("RABBITMQ_NODENAME", format!("larkauth-{port}@localhost"))
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_DIST_PORT", dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
            .env("RABBITMQ_LOG_BASE", file("log"))
            .env("RABBITMQ_PID_FILE", file("node.pid"))
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins"))
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

fn message(id: impl std::fmt::Display) -> Outgoing {
    Outgoing {
        id: EventId::new(format!("event-{id}")).unwrap(),
        routing_key: "card.action.triggered",
        r#type: "test.v1",
        body: "{}".into(),
        headers: BTreeMap::new(),
    }
}

/// Attempts of every delivery, in order.
type Seen = Arc<Mutex<Vec<(String, u32)>>>;

/// Returns a handler that waits for the gate; messages whose id ends with `retry` are retried once.
fn gated() -> (Arc<dyn Handler>, Arc<Semaphore>, Seen, Arc<Semaphore>) {
    let (gate, begun, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Seen::default());
    let (waiting, starting, seeing) = (Arc::clone(&gate), Arc::clone(&begun), Arc::clone(&seen));
    let handler = handler(move |delivery: Delivery| {
        starting.add_permits(1);
        let (gate, seen) = (Arc::clone(&waiting), Arc::clone(&seeing));
        async move {
            let _open = gate.acquire().await.unwrap();
            seen.lock().push((delivery.id.to_string(), delivery.attempt));
            if delivery.attempt == 1 && delivery.id.as_str().ends_with("retry") {
                return Disposition::Retry { after: None, reason: "once more".to_owned() };
            }
            Disposition::DONE
        }
    });
    (handler, gate, seen, begun)
}

async fn becomes(bus: &Arc<dyn Bus>, what: &str, is: impl Fn(&BusHealth) -> bool + Send + Sync) {
    let mut health = bus.health();
    let reached = tokio::time::timeout(BOOT, health.wait_for(|now| is(now))).await;
    assert!(reached.is_ok(), "the bus does not become {what}");
}

fn is_blocked(health: &BusHealth) -> bool {
    matches!(health, BusHealth::Blocked { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarm_stops_publishing_at_once_and_no_acknowledgement() {
    let broker = PrivateBroker::start();
    let options = broker.options();
    let metrics = options.metrics.clone();
    // The broker boots: refused connections and the errors of a node that is not ready are retried.
    let bus: Arc<dyn Bus> = Arc::new(RabbitMq::connect(options).await.unwrap());
    let alarms = [
        (["set_vm_memory_high_watermark", "0"], ["set_vm_memory_high_watermark", "0.6"]),
        (["set_disk_free_limit", "1000000000000000"], ["set_disk_free_limit", "1000000"]),
    ];
    for (number, (alarm, relief)) in alarms.iter().enumerate() {
        let (handler, gate, seen, begun) = gated();
        let consuming = consume(&bus, ALL, handler);
        for n in 0..7 {
            bus.publish(message(format_args!("{number}-{n}"))).await.unwrap();
        }
        bus.publish(message(format_args!("{number}-retry"))).await.unwrap();
        let all = tokio::time::timeout(PATIENCE, begun.acquire_many(8)).await.unwrap().unwrap();
        all.forget();

        broker.control(alarm).await;
        // The broker notices that a connection publishes with the first message; it may accept that one.
        let mut refused = 0;
        let deadline = Instant::now() + PATIENCE;
        while refused < 3 {
            assert!(Instant::now() < deadline, "the alarm has no effect");
            let started = Instant::now();
            if let Err(error) = bus.publish(message(format_args!("{number}-probe-{refused}"))).await {
                assert!(
                    started.elapsed() < Duration::from_secs(1),
                    "it failed after {:?}",
                    started.elapsed()
                );
                assert!(
                    matches!(&error, BusError::Unavailable { message, .. } if message.contains("takes no messages")),
                    "{error}"
                );
                refused += 1;
            }
        }
        becomes(&bus, "blocked", is_blocked).await;
        assert!(metrics.render().lines().any(|line| line == "lark_service_bus_blocked 1"));
        assert!(metrics.render().lines().any(|line| line == "lark_service_bus_up 1"));

        // The handlers finish during the alarm, and the broker gets their acknowledgements. The retry is held.
        gate.add_permits(1);
        eventually("all are handled", || async { seen.lock().len() >= 8 }).await;
        let queue = format!("larkauth.{QUEUE}.v2");
        let held = async || {
            let queues =
                broker.control(&["list_queues", "--silent", "name", "messages_unacknowledged"]).await;
            let mut rows = queues.lines().filter_map(|line| line.split_once('\t'));
            rows.find(|(name, _)| *name == queue).unwrap().1.trim().parse::<u32>().unwrap()
        };
        eventually("all but the retried one are acknowledged", || async { held().await == 1 }).await;
        assert!(is_blocked(&bus.health().borrow()));

        broker.control(relief).await;
        becomes(&bus, "up", |now| *now == BusHealth::Up).await;
        let retried = format!("event-{number}-retry");
        let attempts = || {
            let seen = seen.lock();
            seen.iter().filter(|(id, _)| *id == retried).map(|(_, attempt)| *attempt).collect::<Vec<_>>()
        };
        eventually("the retried one comes again", || async { attempts().len() == 2 }).await;
        eventually("nothing is left", || async { bus.depth(QUEUE).await == Ok(0) && held().await == 0 })
            .await;
        bus.publish(message(format_args!("{number}-after"))).await.unwrap();
        eventually("it is handled", || async {
            seen.lock().iter().any(|(id, _)| *id == format!("event-{number}-after"))
        })
        .await;
        assert_eq!(attempts(), [1, 2], "the retry was doubled or repeated");
        consuming.stop().await;
    }
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn booting_broker_is_waited_for() {
    let mut broker = PrivateBroker::start();
    let bus: Arc<dyn Bus> = Arc::new(RabbitMq::connect(broker.options()).await.unwrap());
    bus.publish(message("kept")).await.unwrap();
    let mut pending = bus.request(message("asked")).await.unwrap();
    broker.kill();
    let started = Instant::now();
    assert_eq!(pending.wait(PATIENCE).await, None);
    assert!(started.elapsed() < PATIENCE / 2, "the wait lasted {:?}", started.elapsed());
    assert!(matches!(bus.publish(message("lost")).await, Err(BusError::Unavailable { .. })));
    broker.boot();
    becomes(&bus, "up", |now| *now == BusHealth::Up).await;
    let (handler, gate, seen, _begun) = gated();
    gate.add_permits(1);
    let consuming = consume(&bus, ALL, handler);
    eventually("confirmed messages survived", || async {
        let seen = seen.lock();
        ["event-kept", "event-asked"].iter().all(|kept| seen.iter().any(|(id, _)| id == kept))
    })
    .await;
    consuming.stop().await;
    bus.close().await;
}

/// A handler that records what it gets.
fn recording() -> (Arc<dyn Handler>, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let seeing = Arc::clone(&seen);
    let handler = handler(move |delivery: Delivery| {
        seeing.lock().push(delivery.id.to_string());
        async { Disposition::DONE }
    });
    (handler, seen)
}

/// Connection errors 320 (an operator closes connections, the node stops) and 541 (a process of the broker crashes) pass by
/// themselves: the same consumer goes on over a new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_errors_of_the_broker_are_transient() {
    const CRASH: &str = "[exit(Channel, crash_for_a_test) || Channel <- rabbit_channel:list()].";
    let broker = PrivateBroker::start();
    let bus: Arc<dyn Bus> = Arc::new(RabbitMq::connect(broker.options()).await.unwrap());
    let (handler, seen) = recording();
    let consuming = consume(&bus, ALL, handler);
    let passes = async |id: &str| {
        eventually("a message is published", || async { bus.publish(message(id)).await.is_ok() }).await;
        eventually("it is handled", || async {
            seen.lock().iter().any(|seen| *seen == format!("event-{id}"))
        })
        .await;
    };
    passes("before").await;

    let faults: [(&str, &[&[&str]]); 3] = [
        ("CONNECTION_FORCED", &[&["close_all_connections", "closed for a test"]]),
        ("INTERNAL_ERROR", &[&["eval", CRASH]]),
        // A node that stops may reset a connection before its error is read.
        ("", &[&["stop_app"], &["start_app"]]),
    ];
    for (number, (expected, commands)) in faults.into_iter().enumerate() {
        let mut health = bus.health();
        let mut watching = JoinSet::new();
        watching.spawn(async move {
            let is_down = |now: &BusHealth| matches!(now, BusHealth::Down { .. });
            health.wait_for(is_down).await.unwrap().clone()
        });
        for command in commands {
            broker.control(command).await;
        }
        let down = tokio::time::timeout(PATIENCE, watching.join_next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(&down, BusHealth::Down { reason } if reason.contains(expected)), "{down:?}");
        becomes(&bus, "up", |now| *now == BusHealth::Up).await;
        passes(&format!("after-{number}")).await;
    }
    consuming.stop().await;
    bus.close().await;
}
