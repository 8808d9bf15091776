//! [`Bus`] inside an SQLite file, for a single machine: nothing else has to run.
//!
//! Every change of one bus goes through one connection, many at a time in one transaction, and is confirmed once that is
//! on the disk. A message in hand is under a lease that is renewed while its handler works; when the process dies the
//! lease ends, and somebody else gets the message. Within a process consumers are woken at once; what another process
//! puts into the same file is found within a second, and an answer never crosses from one to another.

mod backlog;
mod consume;
mod file;
mod lease;
mod maintenance;
mod notifier;
mod publishing;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use larkauth_contracts::topology::{DEAD_LETTER_QUEUE, Queue};
use larkauth_models::{Clock, Entropy, EventId, OsEntropy, SystemClock, Timestamp};
use larkauth_telemetry::Metrics;
use sqlx::{FromRow, SqliteConnection, SqlitePool, query_as, query_scalar, sqlite::SqlitePoolOptions};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::backlog::Backlog;
use self::{
    notifier::Notifier,
    publishing::{Forget, Publish, Requeue},
    writer::{Changes, PATIENCE, Writer},
};
use crate::{
    Bus, BusError, BusHealth, Consume, DeadLetter, Handler, MAX_LENGTH, Outgoing, PendingReply, ReplyAddress,
    RetryPolicy, replies::Replies, routing,
};

/// For closing in order, all included.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
/// A shorter one would only keep the disk busy with its renewal.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);
const READING: &str = "reading the database";

/// How to use a bus inside an SQLite file. Start with [`EmbeddedOptions::new`].
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The database file; may be the store's.
    pub path: PathBuf,
    /// For one publish, from the call to the confirm; 2 s. Also for looking into the file.
    pub publish_deadline: Duration,
    /// A message is handed to somebody else so long after the process that had it in hand died; 10 s, at least 100 ms.
    /// Renewed three times as often while a handler works, so it may be shorter than handlers take.
    pub lease: Duration,
    /// A queue, or the dead letters, takes no more once it holds so many messages; a million.
    pub max_length: u32,
    /// Answers that may be awaited at once; further requests are published without asking for one. 4096.
    pub max_pending_replies: usize,
    /// Delays and limits; the contract's by default. Other waits than the tiers are kept exactly.
    pub retry: RetryPolicy,
    /// Where the bus counts.
    pub metrics: Metrics,
    /// For correlation ids and leases.
    pub entropy: Arc<dyn Entropy>,
    /// For waits and leases, which other processes must be able to tell, too.
    pub clock: Arc<dyn Clock>,
}

impl EmbeddedOptions {
    /// The defaults, for this file.
    pub fn new(path: impl Into<PathBuf>, metrics: Metrics) -> Self {
        Self {
            path: path.into(),
            publish_deadline: Duration::from_secs(2),
            lease: Duration::from_secs(10),
            max_length: MAX_LENGTH,
            max_pending_replies: 4096,
            retry: RetryPolicy::default(),
            metrics,
            entropy: Arc::new(OsEntropy),
            clock: Arc::new(SystemClock),
        }
    }
}

/// What the bus and its consumers share.
struct Engine {
    options: EmbeddedOptions,
    notifier: Arc<Notifier>,
    replies: Arc<Replies>,
    changes: Changes,
    /// For what changes nothing.
    reader: SqlitePool,
    health: watch::Sender<BusHealth>,
    /// No new work from here on.
    closed: CancellationToken,
}

impl Engine {
    /// Lends a connection that may only read to `work`, within the deadline.
    async fn read<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, BusError> {
        let unavailable = |message| BusError::Unavailable { during: READING, message };
        if self.closed.is_cancelled() {
            return Err(unavailable("the bus is closed".to_owned()));
        }
        let reading = async { work(&mut *self.reader.acquire().await?).await };
        match timeout(self.options.publish_deadline, reading).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(unavailable(file::describe(&error))),
            Err(_) => Err(unavailable("no answer in time".to_owned())),
        }
    }

    /// How many messages of a place wait to be handed out now.
    async fn due(&self, place: &str) -> Result<u64, BusError> {
        let now = self.options.clock.now().timestamp_micros();
        self.read(async |db| {
            query_scalar::<_, i64>("select count(*) from bus_messages where place = ?1 and visible_at <= ?2")
                .bind(place)
                .bind(now)
                .fetch_one(db)
                .await
        })
        .await
        .map(|count| u64::try_from(count).unwrap_or(0))
    }

    async fn publish(&self, message: Publish) -> Result<(), BusError> {
        let started = Instant::now();
        let result = timeout(self.options.publish_deadline, self.changes.make(message)).await;
        let result = result.unwrap_or_else(|_| {
            let message = "it was not written in time".to_owned();
            Err(BusError::Unavailable { during: "publish", message })
        });
        let result = result.and_then(|taken| taken);
        let outcome = match &result {
            Ok(()) => "confirmed",
            Err(BusError::Refused { .. }) => "refused",
            Err(_) => "unavailable",
        };
        self.options.metrics.bus_published(outcome, started.elapsed());
        result
    }

    /// To wherever its routing key leads.
    async fn publish_routed(
        &self,
        message: Outgoing,
        reply_to: Option<ReplyAddress>,
    ) -> Result<(), BusError> {
        let queues: Vec<_> = routing::queues(message.routing_key).collect();
        let dead_on_arrival = routing::is_dead_on_arrival(message.routing_key);
        if queues.is_empty() && !dead_on_arrival {
            self.options.metrics.bus_published("refused", Duration::ZERO);
            return Err(BusError::Refused {
                routing_key: message.routing_key.to_owned(),
                message: "no queue is bound to this routing key".to_owned(),
            });
        }
        let max_length = self.options.max_length;
        self.publish(Publish { message, queues, dead_on_arrival, delay: None, reply_to, max_length }).await
    }

    fn random_id(&self) -> String {
        random_id(self.options.entropy.as_ref())
    }
}

fn random_id(entropy: &dyn Entropy) -> String {
    let mut id = [0; 16];
    entropy.fill(&mut id);
    hex::encode(id)
}

/// The bus inside an SQLite file. Dropping it is a crash as far as messages in hand are concerned; [`Bus::close`] ends
/// it in order.
pub struct EmbeddedBus {
    engine: Arc<Engine>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl fmt::Debug for EmbeddedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBus").field("path", &self.engine.options.path).finish_non_exhaustive()
    }
}

impl EmbeddedBus {
    /// Makes the file if there is none (mode 0600), and brings its schema up to date, the store's tables included.
    /// Several processes may do so at once: one does, the others wait for it.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the file cannot be used, [`BusError::Topology`] when another build migrated it.
    pub async fn migrate(path: &Path) -> Result<(), BusError> {
        file::migrate(path).await
    }

    /// Opens the file, and changes nothing in it.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when it is missing or cannot be used, [`BusError::Topology`] when its schema is not
    /// exactly the one that this build was made for; see [`EmbeddedBus::migrate`].
    pub async fn open(mut options: EmbeddedOptions) -> Result<Self, BusError> {
        options.lease = options.lease.max(SHORTEST_LEASE);
        let path = file::check(&options.path, PATIENCE).await?;
        let notifier = Notifier::of(&path);
        let replies =
            Arc::new(Replies::new(random_id(options.entropy.as_ref()), options.max_pending_replies));
        notifier.join(&replies);
        let (changes, writer) =
            Writer::new(&path, Arc::clone(&notifier), Arc::clone(&options.clock), options.metrics.clone());
        let reader = SqlitePoolOptions::new()
            .max_connections(2)
            .acquire_timeout(options.publish_deadline)
            .test_before_acquire(false)
            .connect_lazy_with(file::options(&path, PATIENCE).pragma("query_only", "on"));
        let engine = Arc::new(Engine {
            notifier,
            replies,
            changes,
            reader,
            health: writer.health(),
            closed: CancellationToken::new(),
            options,
        });
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(writer.run(stop.clone()));
        let (caring, stopping) = (maintenance::run(Arc::clone(&engine)), stop.clone());
        tasks.spawn(async move {
            stopping.run_until_cancelled_owned(caring).await;
        });
        Ok(Self { engine, stop, tasks: Mutex::new(tasks) })
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        self.engine.publish_routed(message, None).await
    }

    async fn request(&self, message: Outgoing) -> Result<PendingReply, BusError> {
        let (waiter, answer) = oneshot::channel();
        let replies = &self.engine.replies;
        let correlation_id = self.engine.random_id();
        let reply_to = if replies.expect(&correlation_id, waiter) {
            let (reply_to, correlation_id) = (replies.address.clone(), correlation_id.clone());
            Some(ReplyAddress { reply_to, correlation_id })
        } else {
            // The message matters more than its answer.
            tracing::warn!("too many answers are awaited; this message is published without asking for one");
            None
        };
        let result = self.engine.publish_routed(message, reply_to).await;
        if result.is_err() {
            replies.forget(&correlation_id);
        }
        result.map(|()| PendingReply(answer))
    }

    async fn publish_later(&self, message: Outgoing, queue: Queue, delay: Duration) -> Result<(), BusError> {
        let publish = Publish {
            message,
            queues: vec![queue],
            dead_on_arrival: false,
            delay: Some(delay),
            reply_to: None,
            max_length: self.engine.options.max_length,
        };
        self.engine.publish(publish).await
    }

    async fn consume(
        &self,
        what: Consume,
        handler: Arc<dyn Handler>,
        shutdown: CancellationToken,
    ) -> Result<(), BusError> {
        consume::run(&self.engine, what, handler, &shutdown).await;
        Ok(())
    }

    async fn depth(&self, queue: Queue) -> Result<u64, BusError> {
        self.engine.due(queue.name()).await
    }

    async fn dead_letter_depth(&self) -> Result<u64, BusError> {
        self.engine.due(DEAD_LETTER_QUEUE).await
    }

    async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, BusError> {
        let rows: Vec<LetterRow> = self
            .engine
            .read(async |db| {
                query_as(
                    "select event_id, type, routing_key, headers, body, attempt, died_in, reason, visible_at
                     from bus_messages where place = 'dead-letters' order by visible_at, seq limit ?1",
                )
                .bind(limit)
                .fetch_all(db)
                .await
            })
            .await?;
        Ok(rows.into_iter().filter_map(LetterRow::read).collect())
    }

    async fn requeue_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        let requeue = Requeue { id: id.clone(), max_length: self.engine.options.max_length };
        self.engine.changes.make(requeue).await?
    }

    async fn drop_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        self.engine.changes.make(Forget(id.clone())).await
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        self.engine.health.subscribe()
    }

    async fn close(&self) {
        self.engine.closed.cancel();
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = async {
            while tasks.join_next().await.is_some() {}
            self.engine.reader.close().await;
        };
        if timeout(CLOSE_DEADLINE, closing).await.is_err() {
            tracing::warn!("the bus was still in use when it was closed, and was cut");
        }
        self.engine.replies.forget_all();
    }
}

/// A dead letter as the table has it.
#[derive(FromRow)]
struct LetterRow {
    event_id: String,
    r#type: String,
    routing_key: String,
    headers: String,
    body: Vec<u8>,
    attempt: u32,
    died_in: Option<String>,
    reason: Option<String>,
    visible_at: i64,
}

impl LetterRow {
    /// None when somebody else's program wrote it.
    fn read(self) -> Option<DeadLetter> {
        Some(DeadLetter {
            id: EventId::new(self.event_id).ok()?,
            r#type: self.r#type,
            routing_key: self.routing_key,
            queue: self.died_in,
            reason: self.reason,
            attempt: self.attempt,
            died_at: Timestamp::from_timestamp_micros(self.visible_at),
            body: self.body.into(),
            headers: lease::read_headers(&self.headers),
        })
    }
}
