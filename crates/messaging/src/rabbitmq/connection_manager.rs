//! State shared by publishers and consumers: the two connections, publishing with deadlines, health.

use std::{sync::Arc, time::Duration};

use larkauth_models::ExposeSecret;
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    connection::{Connection, Publication, blocked_error},
    dial::{OpenError, Role, parse},
    error::{late, unavailable},
    link::{Link, Opened, STARTING, State},
    options::RabbitMqOptions,
    topology::Names,
    trials::Trials,
};
use crate::{BusError, BusHealth, PendingReply, ReplyAddress};

const DURING: &str = "publish";
/// Longest time for which a delivery is held while its copy cannot be published or its confirm is unknown, 10 s; it is
/// returned to its queue then. Shorter than the grace of a stopping process.
const HOLD: Duration = Duration::from_secs(10);
/// Pause between two attempts at publishing the copy of a held delivery, 250 ms.
const HOLD_PAUSE: Duration = Duration::from_millis(250);

/// Why a message is not known to be published.
#[derive(Debug)]
enum SendError {
    /// Nothing was sent: the message may be published again without doubling it.
    NotSent(BusError),
    /// The broker refused it, or its confirm did not arrive: it may be published.
    Other(BusError),
}

impl From<SendError> for BusError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotSent(error) | SendError::Other(error) => error,
        }
    }
}

/// Shared by publishers, consumers and the supervisors.
#[derive(Debug)]
pub(super) struct ConnectionManager {
    pub(super) options: RabbitMqOptions,
    pub(super) names: Names,
    pub(super) publishing: Link,
    pub(super) consuming: Link,
    health: watch::Sender<BusHealth>,
    in_flight: Semaphore,
    /// Held while a redelivered message is handled alone: one in the process at a time.
    pub(super) alone: tokio::sync::Mutex<()>,
    pub(super) trials: Trials,
}

impl ConnectionManager {
    /// Opens the first connections. Retries until `connect_deadline` when a retry can help.
    pub(super) async fn connect(
        options: RabbitMqOptions,
    ) -> Result<(Arc<Self>, [(Role, Opened); 2]), BusError> {
        check(&options)?;
        let names = Names::new(&options.prefix);
        let deadline = Instant::now() + options.connect_deadline;
        let (publishing, consuming) = tokio::try_join!(
            open(&options, &names, Role::Publishing, deadline),
            open(&options, &names, Role::Consuming, deadline)
        )?;
        let manager = Self::new(options, names);
        let opened = [(Role::Publishing, publishing), (Role::Consuming, consuming)];
        for (role, (connection, _)) in &opened {
            manager.set(*role, State::Up(Arc::clone(connection)));
        }
        Ok((manager, opened))
    }

    /// Leaves the first connections to the supervisors. Fails for options that cannot succeed.
    pub(super) fn unconnected(options: RabbitMqOptions) -> Result<Arc<Self>, BusError> {
        check(&options)?;
        parse(options.url.expose_secret())?;
        let names = Names::new(&options.prefix);
        Ok(Self::new(options, names))
    }

    fn new(options: RabbitMqOptions, names: Names) -> Arc<Self> {
        let manager = Self {
            names,
            publishing: Link::new(),
            consuming: Link::new(),
            health: watch::Sender::new(BusHealth::Up),
            in_flight: Semaphore::new(options.max_in_flight.clamp(1, 1024)),
            alone: tokio::sync::Mutex::new(()),
            trials: Trials::default(),
            options,
        };
        manager.refresh();
        Arc::new(manager)
    }

    pub(super) fn health(&self) -> watch::Receiver<BusHealth> {
        self.health.subscribe()
    }

    pub(super) fn set(&self, role: Role, state: State) {
        match role {
            Role::Publishing => self.publishing.set(state),
            Role::Consuming => self.consuming.set(state),
        }
        self.refresh();
    }

    /// Derives the health from the connections: both have to be up.
    pub(super) fn refresh(&self) {
        // Computed under the channel's lock, so that the last caller's view is the latest one.
        self.health.send_if_modified(|health| {
            let now = match (self.consuming.health(), self.publishing.health()) {
                (BusHealth::Up, publishing) => publishing,
                (consuming @ BusHealth::Blocked { .. }, BusHealth::Up) => consuming,
                (BusHealth::Blocked { .. }, publishing) => publishing,
                (consuming @ BusHealth::Down { .. }, _) => consuming,
            };
            self.options.metrics.bus_up(!matches!(now, BusHealth::Down { .. }));
            self.options.metrics.bus_blocked(matches!(now, BusHealth::Blocked { .. }));
            let is_new = *health != now;
            *health = now;
            is_new
        });
    }

    /// Publishes with confirm, within `publish_deadline`. Fails at once while the broker takes no messages.
    pub(super) async fn publish(&self, message: Publication) -> Result<(), BusError> {
        let deadline = Instant::now() + self.options.publish_deadline;
        Ok(self.measured(&message, deadline, true).await?)
    }

    /// Publishes the copy of a delivery that is acknowledged afterwards, while `held`. A copy that was certainly not sent is
    /// published again, and an unknown confirm awaited, for at most [`HOLD`], so that neither doubles the message.
    pub(super) async fn publish_copy(
        &self,
        message: &Publication,
        held: impl Fn() -> bool,
    ) -> Result<(), BusError> {
        let deadline = Instant::now() + HOLD;
        loop {
            match self.measured(message, deadline, false).await {
                Err(SendError::NotSent(_)) if held() && Instant::now() + HOLD_PAUSE < deadline => {
                    sleep(HOLD_PAUSE).await;
                }
                result => return Ok(result?),
            }
        }
    }

    /// Publishes with confirm and a reply address.
    pub(super) async fn request(&self, mut message: Publication) -> Result<PendingReply, BusError> {
        let deadline = Instant::now() + self.options.publish_deadline;
        let (waiter, reply) = oneshot::channel();
        let mut id = [0; 16];
        self.options.entropy.fill(&mut id);
        let id = hex::encode(id);
        let consuming = self.consuming.current();
        let replies = consuming.as_ref().map(|connection| &connection.replies);
        if let Some(replies) = replies.filter(|replies| replies.expect(&id, waiter)) {
            message.properties = message
                .properties
                .with_reply_to(replies.address().into())
                .with_correlation_id(id.as_str().into());
        } else {
            // A reply is optional, the message is not.
            tracing::warn!(
                "too many replies are pending, or none can arrive: a request has no reply address"
            );
        }
        let result = self.measured(&message, deadline, true).await;
        if let (Err(_), Some(replies)) = (&result, replies) {
            replies.forget(&id);
        }
        result?;
        Ok(PendingReply::new(reply))
    }

    /// Sends a reply, without a confirm. It is dropped while the broker takes no messages.
    pub(super) async fn reply(&self, address: &ReplyAddress, body: &[u8]) -> Result<(), BusError> {
        let Some(connection) = self.publishing.current() else {
            return Err(BusError::Unavailable { during: "reply", message: "not connected".to_owned() });
        };
        connection.reply(address, body, &self.options.connection_name).await
    }

    async fn measured(
        &self,
        message: &Publication,
        deadline: Instant,
        fails_blocked: bool,
    ) -> Result<(), SendError> {
        let started = Instant::now();
        // Boxed: the driver's futures are large and would be part of every caller's.
        let result = Box::pin(self.send(message, deadline, fails_blocked)).await;
        let outcome = match &result {
            Ok(()) => "confirmed",
            Err(SendError::Other(BusError::Refused { .. })) => "refused",
            Err(_) => "unavailable",
        };
        self.options.metrics.bus_published(outcome, started.elapsed());
        result
    }

    async fn send(
        &self,
        message: &Publication,
        deadline: Instant,
        fails_blocked: bool,
    ) -> Result<(), SendError> {
        let not_sent = SendError::NotSent;
        let Ok(Ok(_permit)) = timeout_at(deadline, self.in_flight.acquire()).await else {
            let message = "too many publishes wait".to_owned();
            return Err(not_sent(BusError::Unavailable { during: DURING, message }));
        };
        let connection = self.publishing.connection_soon(DURING, deadline).await.map_err(not_sent)?;
        if let Some(reason) = connection.blocked() {
            return Err(not_sent(blocked_error(DURING, &reason)));
        }
        let channel = timeout_at(deadline, connection.confirming()).await;
        let channel = settled(&connection, channel).map_err(not_sent)?;
        let publishing = connection.publish(channel, message);
        let result = if fails_blocked {
            timeout_at(deadline, connection.unless_blocked(DURING, publishing)).await
        } else {
            timeout_at(deadline, publishing).await
        };
        settled(&connection, result).map_err(SendError::Other)
    }

    /// Counts the messages that are ready in some queues, and their consumers.
    pub(super) async fn count(&self, queues: &[String]) -> Result<QueueCounts, BusError> {
        let during = "reading a queue's depth";
        let deadline = Instant::now() + self.options.publish_deadline;
        let connection = self.consuming.connection_soon(during, deadline).await?;
        let asking = async {
            let channel = connection.channel().await?;
            let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
            let mut counts = QueueCounts { messages: 0, consumers: 0 };
            for queue in queues {
                let answer =
                    channel.queue_declare(queue.as_str().into(), options, Default::default()).await?;
                counts.messages += u64::from(answer.message_count());
                counts.consumers += u64::from(answer.consumer_count());
            }
            Ok(counts)
        };
        match timeout_at(deadline, Box::pin(asking)).await {
            Ok(Ok(counts)) => Ok(counts),
            Ok(Err(error)) => Err(unavailable(during, &error)),
            Err(_) => Err(late(during)),
        }
    }
}

/// Numbers of some queues, together.
pub(super) struct QueueCounts {
    /// Messages that are ready.
    pub(super) messages: u64,
    /// Consumers.
    pub(super) consumers: u64,
}

/// Gives the connection up when the driver failed, and has it probed when a deadline passed.
fn settled<T>(
    connection: &Connection,
    result: Result<Result<T, BusError>, tokio::time::error::Elapsed>,
) -> Result<T, BusError> {
    match result {
        Ok(Err(error @ BusError::Unavailable { .. })) => {
            if connection.blocked().is_none() {
                // The connection is lost, or an exchange was deleted: opening a new connection corrects both.
                connection.fail(error.to_string());
            }
            Err(error)
        }
        Ok(result) => result,
        Err(_) => {
            connection.suspect();
            Err(late(DURING))
        }
    }
}

/// Opens a connection, again and again until the deadline when a retry can help.
async fn open(
    options: &RabbitMqOptions,
    names: &Names,
    role: Role,
    deadline: Instant,
) -> Result<Opened, BusError> {
    let mut backoff = STARTING;
    loop {
        let failure: OpenError = match timeout_at(deadline, Connection::open(options, names, role)).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(failure)) => failure,
            Err(_) => late("connect").into(),
        };
        let pause = backoff.next(options.entropy.as_ref());
        if !failure.is_transient || Instant::now() + pause >= deadline {
            return Err(failure.error);
        }
        sleep(pause).await;
    }
}

/// Checks the lengths of names: AMQP limits a name to 255 bytes.
fn check(options: &RabbitMqOptions) -> Result<(), BusError> {
    let fits = |text: &str, most: usize| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if fits(&options.prefix, 100) && fits(&options.connection_name, 200) {
        return Ok(());
    }
    let message = "AMQP_PREFIX must be 1 to 100 letters, digits or `-_.`".to_owned();
    Err(BusError::Unavailable { during: "connect", message })
}
