//! The long connection: Lark's pushes over one WebSocket per process and application.
//!
//! [`LongConnection::run`] owns an application's connection. It asks for the address, connects, sends pings, passes every
//! push to a [`PushHandler`] and writes the answer. It reconnects after every loss, with waits that double from 1 s to a
//! cap, with jitter. Every step has a timeout. Silence of more than two ping intervals and a grace counts as a loss, so
//! that a half-open socket is detected. [`LongConnection::subscribe`] returns the state.
//!
//! This module does not detect duplicates, read payloads or verify callbacks.
//!
//! A runnable example is in `examples/long_connection.rs`.

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
use larkauth_net::Network;
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

/// One application's long connection. [`run`](Self::run) starts it.
pub struct LongConnection {
    http: reqwest::Client,
    network: Network,
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
    /// Creates the connection of one application. `base_url` is Lark's API host.
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
            network: Network::default(),
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

    /// Sets trust and proxies of the WebSocket; the default uses no proxy.
    #[must_use]
    pub fn with_network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Sets the clock; the default is the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of randomness; the default is the operating system's.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Sets the observer; the default ignores everything.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn LongConnectionObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// Returns a receiver of the current state and of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// Maintains the connection until `shutdown`, then waits for running handlers within the grace. Every failure is
    /// retried: refused credentials at long intervals, all others with backoff.
    pub async fn run(self, shutdown: CancellationToken) {
        let dial = LarkDial {
            http: self.http.clone(),
            network: self.network.clone(),
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
                Ok(open) => {
                    let on_heard = || self.connected();
                    match connection::serve(
                        open,
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
                "running push handlers were dropped at the end of the shutdown grace"
            );
        }
        self.enter(&ConnectionState::Stopped);
    }

    fn connected(&self) {
        self.observer.connect_attempted(&self.app_id, "connected");
        self.enter(&ConnectionState::Connected { since: self.clock.now() });
    }

    /// Counts a failed attempt and returns the wait before the next one.
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
            // A fast retry cannot succeed: another process has to close a connection first.
            ConnectError::TooManyConnections => {
                (ConnectionState::Reconnecting { failures }, backoff.longest(&*self.entropy))
            }
            _ => (ConnectionState::Reconnecting { failures }, backoff.next(&*self.entropy)),
        };
        tracing::warn!(%error, failures, wait_seconds = wait.as_secs_f32(), "the long connection could not be made");
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
                    "long connection: too many attempts failed, retrying at the longest wait"
                );
            }
            _ => tracing::info!(state = state.as_str(), "long connection: state changed"),
        }
        self.observer.state_changed(&self.app_id, state);
    }
}
