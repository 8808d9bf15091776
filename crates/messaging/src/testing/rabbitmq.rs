use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{Channel, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use larkauth_contracts::topology::Queue;
use larkauth_models::{Entropy, OsEntropy};
use larkauth_telemetry::Metrics;
use tokio::time::timeout;

use super::{PATIENCE, bed::TestBed, eventually, fast_policy, take_dead_letter};
use crate::{
    Bus, DeadLetter, RabbitMq, RabbitMqOptions, RetryPolicy,
    rabbitmq::{Names, remove_topology},
};

/// Environment variable with the address of the broker for tests; a local one by default.
pub const URL_VARIABLE: &str = "LARKAUTH_TEST_AMQP_URL";
const DEFAULT_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

/// Names with a unique prefix on a real RabbitMQ. Its exchanges and queues are removed by [`TestBus::teardown`], which
/// asserts that they are empty, or by dropping it.
#[derive(Debug)]
pub struct TestBus {
    url: String,
    prefix: String,
    policy: RetryPolicy,
    admin: lapin::Connection,
    torn_down: bool,
}

impl TestBus {
    /// Connects, with the delays and limits of production.
    ///
    /// # Panics
    /// When the broker cannot be reached.
    pub async fn create() -> Self {
        Self::with_policy(RetryPolicy::default()).await
    }

    /// Connects, with delays of 50 to 200 ms, 4 attempts and a crash limit of 2.
    ///
    /// # Panics
    /// When the broker cannot be reached.
    pub async fn fast() -> Self {
        Self::with_policy(fast_policy()).await
    }

    async fn with_policy(policy: RetryPolicy) -> Self {
        let url = std::env::var(URL_VARIABLE).unwrap_or_else(|_| DEFAULT_URL.to_owned());
        let mut id = [0; 6];
        OsEntropy.fill(&mut id);
        let prefix = format!("larkauth-test-{}", hex::encode(id));
        let admin =
            timeout(PATIENCE, Box::pin(lapin::Connection::connect(&url, ConnectionProperties::default())))
                .await
                .expect("RabbitMQ answers")
                .unwrap_or_else(|error| panic!("RabbitMQ is needed (see {URL_VARIABLE}): {error}"));
        Self { url, prefix, policy, admin, torn_down: false }
    }

    /// Returns the broker's address, for `AMQP_URL`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the prefix of all names, for `AMQP_PREFIX`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns `host:port` of the broker, for a [`super::TcpProxy`].
    ///
    /// # Panics
    /// When the address is not a URL.
    #[must_use]
    pub fn target(&self) -> String {
        let url = url::Url::parse(&self.url).expect("a URL");
        format!("{}:{}", url.host_str().unwrap_or("127.0.0.1"), url.port().unwrap_or(5672))
    }

    /// Returns the broker's address with the host and port of a [`super::TcpProxy`].
    ///
    /// # Panics
    /// When the address is not a URL.
    #[must_use]
    pub fn url_through(&self, address: std::net::SocketAddr) -> String {
        let mut url = url::Url::parse(&self.url).expect("a URL");
        url.set_host(Some(&address.ip().to_string())).expect("a URL with a host");
        url.set_port(Some(address.port())).expect("a URL with a port");
        url.into()
    }

    /// Returns options for a bus with this prefix.
    ///
    /// # Panics
    /// When metrics cannot be registered.
    #[must_use]
    pub fn options(&self) -> RabbitMqOptions {
        let metrics = Metrics::new().expect("fresh metrics");
        let mut options = RabbitMqOptions::new(self.url.clone().into(), "larkauth-test", metrics);
        options.prefix.clone_from(&self.prefix);
        options.retry = self.policy.clone();
        // Generous, since tests share the machine with the broker.
        options.connect_deadline = PATIENCE;
        options.publish_deadline = Duration::from_secs(10);
        options
    }

    /// Connects a bus with this prefix.
    ///
    /// # Panics
    /// When it cannot connect.
    pub async fn bus(&self) -> Arc<dyn Bus> {
        let bus = RabbitMq::connect(self.options()).await.unwrap_or_else(|error| panic!("{error}"));
        Arc::new(bus)
    }

    /// Opens a channel to the broker, for requests that the bus has no method for.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn channel(&self) -> Channel {
        timeout(PATIENCE, self.admin.create_channel()).await.expect("RabbitMQ answers").expect("a channel")
    }

    /// Returns the name of a queue on the broker.
    #[must_use]
    pub fn queue_name(&self, queue: Queue) -> String {
        self.names().queue(queue)
    }

    /// Returns the names of all work queues and delay queues on the broker.
    #[must_use]
    pub fn queue_names(&self) -> Vec<String> {
        let names = self.names();
        let work = Queue::ALL.iter().flat_map(|queue| [names.queue(*queue), names.isolated(*queue)]);
        work.chain(self.policy.tiers().iter().map(|tier| names.delay(*tier))).collect()
    }

    /// Returns the name of the dead letters' queue on the broker.
    #[must_use]
    pub fn dead_letters_name(&self) -> String {
        self.names().dead_letters()
    }

    fn names(&self) -> Names {
        Names::new(&self.prefix)
    }

    /// Counts the ready messages of a queue; zero when it does not exist.
    async fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let channel = self.channel().await;
        match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
            Ok(queue) => queue.message_count(),
            Err(_) => 0,
        }
    }

    /// Removes and returns the oldest dead letter.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`].
    pub async fn dead_letter(&self) -> DeadLetter {
        let bus = self.bus().await;
        let letter = take_dead_letter(bus.as_ref()).await;
        bus.close().await;
        letter
    }

    /// Removes its exchanges and queues.
    ///
    /// # Panics
    /// When a message is left in a work queue or in the dead letters.
    pub async fn teardown(mut self) {
        let names = self.names();
        // A test without a consumer of the notices leaves them.
        let work = Queue::ALL.iter().filter(|queue| **queue != Queue::DeadLetterNotices);
        let queues = work
            .flat_map(|queue| [names.queue(*queue), names.isolated(*queue)])
            .chain(std::iter::once(names.dead_letters()));
        for queue in queues {
            eventually(&format!("{queue} is empty"), || async { self.ready(&queue).await == 0 }).await;
        }
        remove(&self.admin, &names, &self.policy).await.expect("RabbitMQ removes the queues");
        self.torn_down = true;
    }
}

impl Drop for TestBus {
    fn drop(&mut self) {
        if self.torn_down {
            return;
        }
        // A failed test leaves no queues behind. The runtime is a new one, because the test's may be shutting down.
        let (url, names, policy) = (self.url.clone(), self.names(), self.policy.clone());
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let removing = async {
                    let admin = lapin::Connection::connect(&url, ConnectionProperties::default()).await?;
                    remove(&admin, &names, &policy).await
                };
                let _ = timeout(PATIENCE, removing).await;
                std::io::Result::Ok(())
            })
        });
        let _ = cleaning.join();
    }
}

async fn remove(admin: &lapin::Connection, names: &Names, policy: &RetryPolicy) -> lapin::Result<()> {
    remove_topology(&admin.create_channel().await?, names, policy).await
}

#[async_trait]
impl TestBed for TestBus {
    async fn bus(&self) -> Arc<dyn Bus> {
        Self::bus(self).await
    }
    fn policy(&self) -> &RetryPolicy {
        &self.policy
    }
    async fn teardown(self) {
        Self::teardown(self).await;
    }
}
