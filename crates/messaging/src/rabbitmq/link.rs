//! What is shared by everything that uses the broker, and the task that keeps a session alive.

use std::{sync::Arc, time::Duration};

use larkauth_models::{Entropy, ExposeSecret};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    RabbitMqOptions,
    error::{late, unavailable},
    session::{OpenError, Publication, Session, parse},
    topology::Names,
};
use crate::{BusError, BusHealth, PendingReply};

/// How long a caller waits for a reconnect before it is told.
const RECONNECT_GRACE: Duration = Duration::from_millis(500);
/// First and longest pause between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The first pause while a process starts: the broker may be starting too.
const STARTING_BACKOFF: Duration = Duration::from_millis(100);

/// The connection as everybody sees it.
#[derive(Clone, Debug)]
enum State {
    Up(Arc<Session>),
    Down(BusError),
    Closed,
}

/// Shared by publishers, consumers and the supervisor.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) options: RabbitMqOptions,
    pub(super) names: Names,
    state: watch::Sender<State>,
    health: watch::Sender<BusHealth>,
    in_flight: Semaphore,
}

impl Link {
    /// Makes the first connection, trying again until `connect_deadline` unless trying again cannot help.
    pub(super) async fn connect(options: RabbitMqOptions) -> Result<(Arc<Self>, Supervisor), BusError> {
        check(&options)?;
        let names = Names::new(&options.prefix);
        let deadline = Instant::now() + options.connect_deadline;
        let mut attempt = 0;
        let (session, answers) = loop {
            let failure = match timeout_at(deadline, Session::open(&options, &names)).await {
                Ok(Ok(opened)) => break opened,
                Ok(Err(failure)) => failure,
                Err(_) => late("connect").into(),
            };
            let pause = backoff(options.entropy.as_ref(), attempt, STARTING_BACKOFF);
            if !failure.may_pass || Instant::now() + pause >= deadline {
                return Err(failure.error);
            }
            sleep(pause).await;
            attempt += 1;
        };
        let link = Self::new(options, names);
        link.set(State::Up(Arc::clone(&session)));
        let supervisor = Supervisor { link: Arc::clone(&link), opened: Some((session, answers)) };
        Ok((link, supervisor))
    }

    /// Leaves the first connection to the supervisor. Fails for options under which it never succeeds.
    pub(super) fn unconnected(options: RabbitMqOptions) -> Result<(Arc<Self>, Supervisor), BusError> {
        check(&options)?;
        parse(options.url.expose_secret())?;
        let names = Names::new(&options.prefix);
        let link = Self::new(options, names);
        let supervisor = Supervisor { link: Arc::clone(&link), opened: None };
        Ok((link, supervisor))
    }

    fn new(options: RabbitMqOptions, names: Names) -> Arc<Self> {
        let message = "not connected yet".to_owned();
        let link = Self {
            names,
            state: watch::Sender::new(State::Closed),
            health: watch::Sender::new(BusHealth::Up),
            in_flight: Semaphore::new(options.max_in_flight.clamp(1, 1024)),
            options,
        };
        link.set(State::Down(BusError::Unavailable { during: "connect", message }));
        Arc::new(link)
    }

    /// Opens a session after `pause`, and again after longer ones until it succeeds. `None` when told to stop.
    async fn open_again(
        &self,
        stop: &CancellationToken,
        attempt: &mut u32,
        shortest: Duration,
        mut pause: Duration,
    ) -> Option<Opened> {
        loop {
            let opening = async {
                sleep(pause).await;
                Session::open(&self.options, &self.names).await
            };
            *attempt = attempt.saturating_add(1);
            let Some(opened) = stop.run_until_cancelled(opening).await else {
                self.set(State::Closed);
                return None;
            };
            match opened {
                Ok((session, answers)) => {
                    tracing::info!(attempt, "the message broker is connected");
                    self.set(State::Up(Arc::clone(&session)));
                    return Some((session, answers));
                }
                Err(OpenError { error, .. }) => {
                    tracing::warn!(%error, attempt, "the message broker cannot be reached");
                    self.set(State::Down(error));
                    pause = backoff(self.options.entropy.as_ref(), *attempt, shortest);
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

    /// The session, waiting for one as long as it takes. `None` when the bus is closed.
    ///
    /// # Errors
    /// When waiting cannot help: the topology does not fit.
    pub(super) async fn session(&self) -> Result<Option<Arc<Session>>, BusError> {
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                State::Up(session) if !session.broken.is_cancelled() => return Ok(Some(Arc::clone(session))),
                State::Down(error @ BusError::Topology(_)) => return Err(error.clone()),
                State::Closed => return Ok(None),
                State::Up(_) | State::Down(_) => {}
            }
            if state.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// The session, waiting for a reconnect for a moment only.
    pub(super) async fn session_soon(
        &self,
        during: &'static str,
        deadline: Instant,
    ) -> Result<Arc<Session>, BusError> {
        let patience = deadline.min(Instant::now() + RECONNECT_GRACE);
        match timeout_at(patience, self.session()).await {
            Ok(Ok(Some(session))) => Ok(session),
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

    /// Publishes with confirm and an address for an answer.
    pub(super) async fn request(&self, message: Publication) -> Result<PendingReply, BusError> {
        self.measured(message, true).await.map(PendingReply)
    }

    async fn measured(
        &self,
        message: Publication,
        wants_answer: bool,
    ) -> Result<oneshot::Receiver<bytes::Bytes>, BusError> {
        let started = Instant::now();
        // Boxed: the driver's futures are large, and every caller would carry them.
        let result =
            Box::pin(self.send(message, wants_answer, started + self.options.publish_deadline)).await;
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
        wants_answer: bool,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<bytes::Bytes>, BusError> {
        let during = "publish";
        let _permit = match timeout_at(deadline, self.in_flight.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => {
                return Err(BusError::Unavailable { during, message: "too many publishes wait".to_owned() });
            }
        };
        let session = self.session_soon(during, deadline).await?;
        if session.blocked() {
            let message = "the broker is short of memory or disk and takes no messages".to_owned();
            return Err(BusError::Unavailable { during, message });
        }

        let (waiter, answer) = oneshot::channel();
        let mut correlation_id = String::new();
        if wants_answer {
            let mut id = [0; 16];
            self.options.entropy.fill(&mut id);
            correlation_id = hex::encode(id);
            if session.replies.expect(&correlation_id, waiter) {
                message.properties = message
                    .properties
                    .with_reply_to(session.replies.address.as_str().into())
                    .with_correlation_id(correlation_id.as_str().into());
            } else {
                // The message matters more than its answer.
                tracing::warn!(
                    "too many answers are awaited; this message is published without asking for one"
                );
            }
        }

        let result = match timeout_at(deadline, session.publish(&message)).await {
            Ok(Err(error @ BusError::Unavailable { .. })) => {
                // Lost, or an exchange is gone: a new connection mends both.
                session.fail(error.to_string());
                Err(error)
            }
            Ok(result) => result,
            Err(_) => {
                session.suspect();
                Err(late(during))
            }
        };
        if result.is_err() && wants_answer {
            session.replies.forget(&correlation_id);
        }
        result.map(|()| answer)
    }

    /// Messages waiting in a queue.
    pub(super) async fn depth(&self, queue: String) -> Result<u64, BusError> {
        let during = "reading a queue's depth";
        let deadline = Instant::now() + self.options.publish_deadline;
        let session = self.session_soon(during, deadline).await?;
        let asking = async {
            let channel = session.channel().await?;
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

/// A session, and where its answers come in.
type Opened = (Arc<Session>, lapin::Consumer);

/// Owns the connection: makes it, replaces it when it is lost, closes it when told to.
pub(super) struct Supervisor {
    link: Arc<Link>,
    /// None before the first connection.
    opened: Option<Opened>,
}

impl Supervisor {
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { link, opened } = self;
        let first = match opened {
            Some(opened) => Some(opened),
            None => link.open_again(&stop, &mut 0, STARTING_BACKOFF, Duration::ZERO).await,
        };
        let Some((mut session, mut answers)) = first else { return };
        let mut attempt = 0;
        loop {
            let since = Instant::now();
            let lost = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    link.set(State::Closed);
                    session.close().await;
                    return;
                }
                reason = session.run(answers) => reason,
            };
            session.fail(lost.clone());
            tracing::warn!(reason = %lost, "the message broker is disconnected");
            link.set(State::Down(BusError::Unavailable { during: "connection lost", message: lost }));
            // A connection that does not last does not start the pauses anew.
            if since.elapsed() > BACKOFF.1 {
                attempt = 0;
            }
            let pause = backoff(link.options.entropy.as_ref(), attempt, BACKOFF.0);
            let Some(opened) = link.open_again(&stop, &mut attempt, BACKOFF.0, pause).await else { return };
            (session, answers) = opened;
        }
    }
}

/// AMQP has room for 255 bytes in a name.
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

/// 1-2-4-8… times the first pause, capped, a quarter more or less.
fn backoff(entropy: &dyn Entropy, attempt: u32, first: Duration) -> Duration {
    entropy.jitter(first.saturating_mul(1 << attempt.min(16)).min(BACKOFF.1), 0.25)
}

#[cfg(test)]
mod tests {
    use larkauth_models::SeededEntropy;

    use super::*;

    #[test]
    fn pauses_double_and_are_capped() {
        let entropy = SeededEntropy::new(1);
        for (attempt, seconds) in [(0, 1.0), (1, 2.0), (4, 16.0), (5, 30.0), (u32::MAX, 30.0)] {
            let pause = backoff(&entropy, attempt, BACKOFF.0).as_secs_f64();
            assert!((seconds * 0.75..=seconds * 1.25).contains(&pause), "{attempt}: {pause}");
        }
    }
}
