//! The long connection: Lark's pushes over one WebSocket per process and application.
//!
//! [`LongConnection::run`] is the single owner of an application's connection. It finds out where to connect, connects,
//! pings, hands every push to a [`PushHandler`] and writes the answer, and comes back after every loss: waits double from
//! 1 s to a cap, with jitter. Every step has a deadline, and silence for longer than two ping intervals plus a grace is a
//! loss, so a half-open socket is noticed. Where it stands can be watched with [`LongConnection::subscribe`].
//!
//! What does not live here: recognising duplicates, reading payloads, verifying callbacks.

mod arrivals;
mod assembler;
mod config;
mod connection;
mod dial;
mod error;
mod push;
mod state;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use larkauth_models::{AppId, Backoff, Clock, Entropy, OsEntropy, SecretString, SystemClock};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use url::Url;

pub use self::{
    config::{AssemblerConfig, LongConnectionConfig},
    dial::discover,
    error::ConnectError,
    push::{Answer, Push, PushHandler, PushKind, PushMeta},
    state::{ConnectionState, LongConnectionObserver},
};
use self::{
    connection::End,
    dial::{Dial, LarkDial},
    state::NoObserver,
};

/// One application's long connection, not yet running.
pub struct LongConnection {
    http: reqwest::Client,
    base_url: Url,
    app_id: AppId,
    app_secret: SecretString,
    config: LongConnectionConfig,
    handler: Arc<dyn PushHandler>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn LongConnectionObserver>,
    state: watch::Sender<ConnectionState>,
}

impl std::fmt::Debug for LongConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongConnection").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

impl LongConnection {
    /// Prepares the connection of one application; `base_url` is the platform's API host.
    #[must_use]
    pub fn new(
        http: reqwest::Client,
        base_url: Url,
        app_id: AppId,
        app_secret: SecretString,
        config: LongConnectionConfig,
        handler: Arc<dyn PushHandler>,
    ) -> Self {
        Self {
            http,
            base_url,
            app_id,
            app_secret,
            config,
            handler,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            observer: Arc::new(NoObserver),
            state: watch::Sender::new(ConnectionState::Connecting),
        }
    }

    /// Another clock than the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another randomness than the operating system's.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Somebody who is told what happens.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn LongConnectionObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Where the connection stands, now and from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// Keeps the connection until `shutdown`, then finishes what is in hand within the grace. Never gives up before:
    /// refused credentials are tried again now and then, everything else with backoff.
    pub async fn run(self, shutdown: CancellationToken) {
        let dial = LarkDial {
            http: self.http.clone(),
            base_url: self.base_url.clone(),
            app_id: self.app_id.clone(),
            app_secret: self.app_secret.clone(),
            config: self.config.clone(),
        };
        let span = tracing::info_span!("lark.long_connection", app_id = %self.app_id);
        self.supervise(dial, shutdown).instrument(span).await;
    }

    async fn supervise<D: Dial>(self, dial: D, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut backoff =
            Backoff::new(self.config.backoff_base, self.config.backoff_cap, self.config.backoff_jitter);
        let mut failures = 0_u32;
        loop {
            let dialled = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                dialled = dial.dial() => dialled,
            };
            let failure = match dialled {
                Ok(link) => {
                    let on_heard = || self.connected();
                    match connection::serve(
                        link,
                        &self.config,
                        &self.handler,
                        &mut tasks,
                        &shutdown,
                        on_heard,
                    )
                    .await
                    {
                        End::Shutdown => break,
                        End::Lost { heard: false, reason } => Some(ConnectError::NeverHeard { reason }),
                        End::Lost { heard: true, reason } => {
                            tracing::warn!(reason, "the long connection is lost");
                            failures = 0;
                            backoff.reset();
                            None
                        }
                    }
                }
                Err(error) => Some(error),
            };
            let wait = match failure {
                None => {
                    self.enter(&ConnectionState::Reconnecting { failures });
                    backoff.next(&*self.entropy)
                }
                Some(error) => self.failed(&error, &mut failures, &mut backoff),
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = sleep(wait) => {}
            }
        }
        let finished = async { while tasks.join_next().await.is_some() {} };
        if timeout(self.config.shutdown_grace, finished).await.is_err() {
            tracing::warn!(
                left = tasks.len(),
                "pushes in hand were given up at the end of the shutdown grace"
            );
        }
        self.enter(&ConnectionState::Stopped);
    }

    fn connected(&self) {
        self.observer.connect_attempted(&self.app_id, "connected");
        self.enter(&ConnectionState::Connected { since: self.clock.now() });
    }

    /// Counts a failed attempt and says how long to wait before the next.
    fn failed(&self, error: &ConnectError, failures: &mut u32, backoff: &mut Backoff) -> Duration {
        self.observer.connect_attempted(&self.app_id, error.label());
        *failures = failures.saturating_add(1);
        let failures = *failures;
        let (state, wait) = match error {
            ConnectError::Rejected { .. } => (
                ConnectionState::Rejected { reason: error.to_string() },
                self.entropy.jitter(self.config.rejected_retry_interval, self.config.backoff_jitter),
            ),
            _ if self.config.fallback_to_http && failures >= self.config.max_reconnect_retries => {
                (ConnectionState::FallenBack { failures }, backoff.longest(&*self.entropy))
            }
            // Coming back fast cannot help here: another process must let go first.
            ConnectError::TooManyConnections => {
                (ConnectionState::Reconnecting { failures }, backoff.longest(&*self.entropy))
            }
            _ => (ConnectionState::Reconnecting { failures }, backoff.next(&*self.entropy)),
        };
        tracing::warn!(%error, failures, wait_seconds = wait.as_secs_f32(), "no long connection");
        self.enter(&state);
        wait
    }

    fn enter(&self, state: &ConnectionState) {
        let changed = self.state.send_if_modified(|current| {
            let changed = current != state;
            current.clone_from(state);
            changed
        });
        if !changed {
            return;
        }
        match state {
            ConnectionState::Rejected { reason } => {
                tracing::error!(state = state.as_str(), reason, "long connection: state changed");
            }
            ConnectionState::Reconnecting { .. } => {}
            ConnectionState::FallenBack { failures } => {
                tracing::warn!(
                    state = state.as_str(),
                    failures,
                    "long connection: given up for now, tried again at the slowest pace"
                );
            }
            _ => tracing::info!(state = state.as_str(), "long connection: state changed"),
        }
        self.observer.state_changed(&self.app_id, state);
    }
}
