//! Compares both buses on one machine in one run: `cargo bench -p larkauth-messaging-sqlite --bench publish`. RabbitMQ
//! is found as in the tests (`LARKAUTH_TEST_AMQP_URL`).
//!
//! Messages have 512 bytes. The number of a case is that of concurrent publishes, or of concurrent handlers.
#![expect(clippy::unwrap_used, reason = "a failed measurement")]

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    Bus, Consume, Disposition, Outgoing,
    testing::{TestBus, consume, handler},
};
use larkauth_messaging_sqlite::testing::TestFile;
use larkauth_models::EventId;
use tokio::{runtime::Runtime, sync::Semaphore, task::JoinSet};

/// Number of messages of one measurement.
const MESSAGES: usize = 1000;
const CASES: [Case; 6] = [
    Case { bus: Kind::Embedded, at_once: 1 },
    Case { bus: Kind::RabbitMq, at_once: 1 },
    Case { bus: Kind::Embedded, at_once: 64 },
    Case { bus: Kind::RabbitMq, at_once: 64 },
    Case { bus: Kind::Embedded, at_once: 256 },
    Case { bus: Kind::RabbitMq, at_once: 256 },
];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Embedded,
    RabbitMq,
}

#[derive(Clone, Copy)]
struct Case {
    bus: Kind,
    at_once: u16,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.bus, self.at_once)
    }
}

/// A bus, and the place that it lives in.
struct Bed {
    runtime: Runtime,
    bus: Arc<dyn Bus>,
    _place: (Option<TestFile>, Option<TestBus>),
}

impl Bed {
    fn new(kind: Kind) -> Self {
        let runtime = Runtime::new().unwrap();
        let (bus, place) = runtime.block_on(async {
            match kind {
                Kind::Embedded => {
                    let file = TestFile::create().await;
                    (file.bus().await, (Some(file), None))
                }
                Kind::RabbitMq => {
                    let broker = TestBus::create().await;
                    (broker.bus().await, (None, Some(broker)))
                }
            }
        });
        Self { runtime, bus, _place: place }
    }

    /// Publishes all of them, each waiting for its confirm.
    fn publish(&self, at_once: u16) {
        self.runtime.block_on(async {
            let permits = Arc::new(Semaphore::new(at_once.into()));
            let mut publishes = JoinSet::new();
            for n in 0..MESSAGES {
                let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
                let bus = Arc::clone(&self.bus);
                publishes.spawn(async move {
                    bus.publish(message(n)).await.unwrap();
                    drop(permit);
                });
            }
            publishes.join_all().await;
        });
    }

    /// Handles as many.
    fn consume(&self, at_once: u16) {
        self.runtime.block_on(async {
            let handled = Arc::new(Semaphore::new(0));
            let count = Arc::clone(&handled);
            let counting = handler(move |_| {
                count.add_permits(1);
                async { Disposition::DONE }
            });
            let what = Consume {
                queue: Queue::CardActions,
                concurrency: at_once,
                handler_deadline: Duration::from_secs(10),
            };
            let consuming = consume(&self.bus, what, counting);
            handled.acquire_many(u32::try_from(MESSAGES).unwrap()).await.unwrap().forget();
            consuming.stop().await;
        });
    }
}

fn message(n: usize) -> Outgoing {
    Outgoing {
        id: EventId::new(format!("event-{n}")).unwrap(),
        routing_key: "card.action.triggered",
        r#type: "bench.v1",
        body: vec![b'x'; 512].into(),
        headers: BTreeMap::new(),
    }
}

#[divan::bench(args = CASES, sample_count = 5, sample_size = 1)]
fn publish_and_confirm(bencher: Bencher<'_, '_>, case: Case) {
    let bed = Bed::new(case.bus);
    bencher.counter(ItemsCount::new(MESSAGES)).bench_local(|| bed.publish(case.at_once));
}

#[divan::bench(args = CASES, sample_count = 5, sample_size = 1)]
fn consume_and_acknowledge(bencher: Bencher<'_, '_>, case: Case) {
    let bed = Bed::new(case.bus);
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .with_inputs(|| bed.publish(256))
        .bench_local_values(|()| bed.consume(case.at_once));
}

fn main() {
    divan::main();
}
