//! State shared by publishers and consumers, and the task that replaces a lost connection.

use std::{sync::Arc, time::Duration};

use larkauth_models::{Backoff, ExposeSecret};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connection, OpenError, Publication, parse},
    error::{late, unavailable},
    options::RabbitMqOptions,
    topology::Names,
};
use crate::{BusError, BusHealth, PendingReply};

/// Longest wait of a caller for a reconnect, 500 ms, so that its own caller is not kept waiting.
const RECONNECT_GRACE: Duration = Duration::from_millis(500);
/// Longest wait between attempts to connect, and the age at which a connection counts as stable, 30 s.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Largest deviation from a wait, a quarter of it, so that processes do not reconnect at the same time.
const JITTER: f64 = 0.25;
/// Waits of a starting process: short at first, since the broker may be starting too.
const STARTING: Backoff = Backoff::new(Duration::from_millis(100), LONGEST_WAIT, JITTER);
/// Waits after a lost connection.
const RECONNECTING: Backoff = Backoff::new(Duration::from_secs(1), LONGEST_WAIT, JITTER);

/// The connection as publishers and consumers see it.
#[derive(Clone, Debug)]
enum State {
    Up(Arc<Connection>),
    Down(BusError),
    Closed,
}

/// Shared by publishers, consumers and the supervisor.
#[derive(Debug)]
pub(super) struct ConnectionManager {
    pub(super) options: RabbitMqOptions,
    pub(super) names: Names,
    state: watch::Sender<State>,
    health: watch::Sender<BusHealth>,
    in_flight: Semaphore,
}

impl ConnectionManager {
    /// Opens the first connection. Retries until `connect_deadline` when a retry can help.
    pub(super) async fn connect(options: RabbitMqOptions) -> Result<(Arc<Self>, Supervisor), BusError> {
        check(&options)?;
        let names = Names::new(&options.prefix);
        let deadline = Instant::now() + options.connect_deadline;
        let mut backoff = STARTING;
        let (connection, replies) = loop {
            let failure = match timeout_at(deadline, Connection::open(&options, &names)).await {
                Ok(Ok(opened)) => break opened,
                Ok(Err(failure)) => failure,
                Err(_) => late("connect").into(),
            };
            let pause = backoff.next(options.entropy.as_ref());
            if !failure.is_transient || Instant::now() + pause >= deadline {
                return Err(failure.error);
            }
            sleep(pause).await;
        };
        let manager = Self::new(options, names);
        manager.set(State::Up(Arc::clone(&connection)));
        let supervisor = Supervisor { manager: Arc::clone(&manager), opened: Some((connection, replies)) };
        Ok((manager, supervisor))
    }

    /// Leaves the first connection to the supervisor. Fails for options that cannot succeed.
    pub(super) fn unconnected(options: RabbitMqOptions) -> Result<(Arc<Self>, Supervisor), BusError> {
        check(&options)?;
        parse(options.url.expose_secret())?;
        let names = Names::new(&options.prefix);
        let manager = Self::new(options, names);
        let supervisor = Supervisor { manager: Arc::clone(&manager), opened: None };
        Ok((manager, supervisor))
    }

    fn new(options: RabbitMqOptions, names: Names) -> Arc<Self> {
        let message = "not connected yet".to_owned();
        let manager = Self {
            names,
            state: watch::Sender::new(State::Closed),
            health: watch::Sender::new(BusHealth::Up),
            in_flight: Semaphore::new(options.max_in_flight.clamp(1, 1024)),
            options,
        };
        manager.set(State::Down(BusError::Unavailable { during: "connect", message }));
        Arc::new(manager)
    }

    /// Opens a connection after `pause`, and again after longer waits until it succeeds. Returns `None` on `stop`.
    async fn open_repeatedly(
        &self,
        stop: &CancellationToken,
        backoff: &mut Backoff,
        attempt: &mut u32,
        mut pause: Duration,
    ) -> Option<Opened> {
        loop {
            let opening = async {
                sleep(pause).await;
                Connection::open(&self.options, &self.names).await
            };
            *attempt = attempt.saturating_add(1);
            let Some(opened) = stop.run_until_cancelled(opening).await else {
                self.set(State::Closed);
                return None;
            };
            match opened {
                Ok((connection, replies)) => {
                    tracing::info!(attempt, "the message broker is connected");
                    self.set(State::Up(Arc::clone(&connection)));
                    return Some((connection, replies));
                }
                Err(OpenError { error, .. }) => {
                    tracing::warn!(%error, attempt, "the message broker cannot be reached");
                    self.set(State::Down(error));
                    pause = backoff.next(self.options.entropy.as_ref());
                }
            }
        }
    }

    pub(super) fn health(&self) -> watch::Receiver<BusHealth> {
        self.health.subscribe()
    }

    fn set(&self, state: State) {
        let health = match &state {
            State::Up(_) => BusHealth::Up,
            State::Down(error) => BusHealth::Down { reason: error.to_string() },
            State::Closed => BusHealth::Down { reason: "closed".to_owned() },
        };
        self.options.metrics.bus_up(health == BusHealth::Up);
        self.health.send_replace(health);
        self.state.send_replace(state);
    }

    /// Waits for a connection without a deadline. `None` when the bus is closed.
    ///
    /// # Errors
    /// [`BusError::Topology`], which waiting does not correct.
    pub(super) async fn connection(&self) -> Result<Option<Arc<Connection>>, BusError> {
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                State::Up(connection) if !connection.broken.is_cancelled() => {
                    return Ok(Some(Arc::clone(connection)));
                }
                State::Down(error @ BusError::Topology(_)) => return Err(error.clone()),
                State::Closed => return Ok(None),
                State::Up(_) | State::Down(_) => {}
            }
            if state.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Waits for a connection for at most [`RECONNECT_GRACE`].
    pub(super) async fn connection_soon(
        &self,
        during: &'static str,
        deadline: Instant,
    ) -> Result<Arc<Connection>, BusError> {
        let until = deadline.min(Instant::now() + RECONNECT_GRACE);
        match timeout_at(until, self.connection()).await {
            Ok(Ok(Some(connection))) => Ok(connection),
            Ok(Ok(None)) => Err(BusError::Unavailable { during, message: "the bus is closed".to_owned() }),
            Ok(Err(error)) => Err(error),
            Err(_) => match &*self.state.borrow() {
                State::Down(error) => Err(error.clone()),
                _ => Err(BusError::Unavailable { during, message: "not connected".to_owned() }),
            },
        }
    }

    /// Publishes with confirm, within `publish_deadline`.
    pub(super) async fn publish(&self, message: Publication) -> Result<(), BusError> {
        self.measured(message, false).await.map(drop)
    }

    /// Publishes with confirm and a reply address.
    pub(super) async fn request(&self, message: Publication) -> Result<PendingReply, BusError> {
        self.measured(message, true).await.map(PendingReply::new)
    }

    async fn measured(
        &self,
        message: Publication,
        wants_reply: bool,
    ) -> Result<oneshot::Receiver<bytes::Bytes>, BusError> {
        let started = Instant::now();
        // Boxed: the driver's futures are large and would be part of every caller's.
        let result = Box::pin(self.send(message, wants_reply, started + self.options.publish_deadline)).await;
        let outcome = match &result {
            Ok(_) => "confirmed",
            Err(BusError::Refused { .. }) => "refused",
            Err(_) => "unavailable",
        };
        self.options.metrics.bus_published(outcome, started.elapsed());
        result
    }

    async fn send(
        &self,
        mut message: Publication,
        wants_reply: bool,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<bytes::Bytes>, BusError> {
        let during = "publish";
        let _permit = match timeout_at(deadline, self.in_flight.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(BusError::Unavailable { during, message: "too many publishes wait".to_owned() });
            }
        };
        let connection = self.connection_soon(during, deadline).await?;
        if connection.blocked() {
            let message = "the broker is short of memory or disk and takes no messages".to_owned();
            return Err(BusError::Unavailable { during, message });
        }

        let (waiter, reply) = oneshot::channel();
        let mut correlation_id = String::new();
        if wants_reply {
            let mut id = [0; 16];
            self.options.entropy.fill(&mut id);
            correlation_id = hex::encode(id);
            if connection.replies.expect(&correlation_id, waiter) {
                message.properties = message
                    .properties
                    .with_reply_to(connection.replies.address().into())
                    .with_correlation_id(correlation_id.as_str().into());
            } else {
                // A reply is optional, the message is not.
                tracing::warn!(
                    "too many replies are pending; a request is published without a reply address"
                );
            }
        }

        let result = match timeout_at(deadline, connection.publish(&message)).await {
            Ok(Err(error @ BusError::Unavailable { .. })) => {
                // The connection is lost, or an exchange was deleted: opening a new connection corrects both.
                connection.fail(error.to_string());
                Err(error)
            }
            Ok(result) => result,
            Err(_) => {
                connection.suspect();
                Err(late(during))
            }
        };
        if result.is_err() && wants_reply {
            connection.replies.forget(&correlation_id);
        }
        result.map(|()| reply)
    }

    /// Counts the messages that are ready in a queue.
    pub(super) async fn depth(&self, queue: String) -> Result<u64, BusError> {
        let during = "reading a queue's depth";
        let deadline = Instant::now() + self.options.publish_deadline;
        let connection = self.connection_soon(during, deadline).await?;
        let asking = async {
            let channel = connection.channel().await?;
            let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
            let answer = channel.queue_declare(queue.as_str().into(), options, Default::default()).await?;
            Ok(u64::from(answer.message_count()))
        };
        match timeout_at(deadline, Box::pin(asking)).await {
            Ok(Ok(count)) => Ok(count),
            Ok(Err(error)) => Err(unavailable(during, &error)),
            Err(_) => Err(late(during)),
        }
    }
}

/// A connection with the consumer of its replies.
type Opened = (Arc<Connection>, lapin::Consumer);

/// Owns the connection: opens it, replaces a lost one, and closes it on `stop`.
pub(super) struct Supervisor {
    manager: Arc<ConnectionManager>,
    /// `None` before the first connection.
    opened: Option<Opened>,
}

impl Supervisor {
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { manager, opened } = self;
        let first = match opened {
            Some(opened) => Some(opened),
            None => manager.open_repeatedly(&stop, &mut STARTING.clone(), &mut 0, Duration::ZERO).await,
        };
        let Some((mut connection, mut replies)) = first else { return };
        let mut backoff = RECONNECTING;
        let mut attempt = 0_u32;
        loop {
            let since = Instant::now();
            let lost = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    manager.set(State::Closed);
                    connection.close().await;
                    return;
                }
                reason = connection.run(replies) => reason,
            };
            connection.fail(lost.clone());
            tracing::warn!(reason = %lost, "the message broker is disconnected");
            manager.set(State::Down(BusError::Unavailable { during: "connection lost", message: lost }));
            // Only a stable connection resets the backoff.
            if since.elapsed() > LONGEST_WAIT {
                backoff.reset();
                attempt = 0;
            }
            let pause = backoff.next(manager.options.entropy.as_ref());
            let opened = manager.open_repeatedly(&stop, &mut backoff, &mut attempt, pause).await;
            let Some(opened) = opened else { return };
            (connection, replies) = opened;
        }
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
