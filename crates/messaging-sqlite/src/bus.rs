use std::{fmt, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::{DEAD_LETTER_QUEUE, Queue};
use larkauth_messaging::{
    Bus, BusError, BusHealth, Consume, DeadLetter, Handler, Outgoing, PendingReply, ReplyAddress,
    backend::Replies,
};
use larkauth_models::EventId;
use parking_lot::Mutex;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    consume,
    dead_letters::{self, Delete, Requeue},
    engine::{Engine, random_id},
    file::{self, BUSY_TIMEOUT},
    maintenance,
    notifier::Notifier,
    options::EmbeddedOptions,
    publishing::Publish,
    writer::Writer,
};

/// Deadline for closing in order, 10 s.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
/// Shortest lease, 100 ms; a shorter one would only load the disk with renewals.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

/// The bus inside a SQLite file. Dropping it leaves deliveries to the expiry of their leases, as a crash does;
/// [`Bus::close`] closes it in order.
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
    /// Creates the file if it is missing (mode 0600), and brings its schema up to date, the store's tables included.
    /// Of several processes one migrates and the others wait.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when the file cannot be used, [`BusError::Topology`] when another build migrated it.
    pub async fn migrate(path: &Path) -> Result<(), BusError> {
        file::migrate(path).await
    }

    /// Opens the file. Its content stays as it is.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when it is missing or cannot be used, [`BusError::Topology`] when its schema is not
    /// the one that this build needs; see [`EmbeddedBus::migrate`].
    pub async fn open(mut options: EmbeddedOptions) -> Result<Self, BusError> {
        options.lease = options.lease.max(SHORTEST_LEASE);
        let path = file::check(&options.path).await?;
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
            .connect_lazy_with(larkauth_sqlite::options(&path, BUSY_TIMEOUT).pragma("query_only", "on"));
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
        let (maintaining, stopping) = (maintenance::run(Arc::clone(&engine)), stop.clone());
        tasks.spawn(async move {
            stopping.run_until_cancelled_owned(maintaining).await;
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
        let (waiter, reply) = oneshot::channel();
        let replies = &self.engine.replies;
        let correlation_id = random_id(self.engine.options.entropy.as_ref());
        let reply_to = if replies.expect(&correlation_id, waiter) {
            let (reply_to, correlation_id) = (replies.address().to_owned(), correlation_id.clone());
            Some(ReplyAddress { reply_to, correlation_id })
        } else {
            // A reply is optional, the message is not.
            tracing::warn!("too many replies are pending; a request is published without a reply address");
            None
        };
        let result = self.engine.publish_routed(message, reply_to).await;
        if result.is_err() {
            replies.forget(&correlation_id);
        }
        result.map(|()| PendingReply::new(reply))
    }

    async fn publish_later(&self, message: Outgoing, queue: Queue, delay: Duration) -> Result<(), BusError> {
        let publish = Publish {
            message,
            queues: vec![queue],
            dead_on_arrival: false,
            delay: Some(delay),
            reply_to: None,
            capacity: self.engine.options.capacity(),
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
        self.engine.read(async |db| dead_letters::oldest(db, limit).await).await
    }

    async fn requeue_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        let requeue = Requeue { id: id.clone(), capacity: self.engine.options.capacity() };
        self.engine.changes.make(requeue).await?
    }

    async fn drop_dead_letter(&self, id: &EventId) -> Result<bool, BusError> {
        self.engine.changes.make(Delete { id: id.clone() }).await
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        self.engine.health.subscribe()
    }

    async fn close(&self) {
        self.engine.closed.cancel();
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        let closing = async {
            while tasks.join_next().await.is_some() {}
            self.engine.reader.close().await;
        };
        if timeout(CLOSE_DEADLINE, closing).await.is_err() {
            tracing::warn!("the bus was still in use when it was closed; its tasks are aborted");
        }
        self.engine.replies.forget_all();
    }
}
