use std::{collections::BTreeMap, sync::Arc, time::Duration};

use larkauth_auth::Context;
use larkauth_config::WebsocketSettings;
use larkauth_lark::long_connection::{
    ConnectionState, LongConnection, LongConnectionConfig, LongConnectionObserver,
};
use larkauth_models::{AppId, Application, ExposeSecret};
use larkauth_storage::Registration;
use larkauth_telemetry::{Health, HealthHandle, Metrics};
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::pushes::Pushes;
use crate::{actor::ACTOR, callbacks::Callbacks};

/// Time between two readings of the registered applications: 10 s.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Owner of the long connections: one per enabled application, with its present secret.
pub(crate) struct ConnectionSupervisor {
    context: Context,
    config: LongConnectionConfig,
    /// HTTP callbacks of an application without encrypt key are accepted.
    allow_unsigned: bool,
    health: Health,
    callbacks: Arc<Callbacks>,
    /// Not ready until the applications are known.
    unknown: Option<HealthHandle>,
    open: BTreeMap<AppId, Open>,
    tasks: JoinSet<()>,
}

/// A connection with its task.
struct Open {
    task: Id,
    stop: CancellationToken,
    /// Changes when the connection must be replaced.
    fingerprint: [u8; 32],
}

impl ConnectionSupervisor {
    pub(crate) fn new(
        context: Context,
        settings: &WebsocketSettings,
        allow_unsigned: bool,
        health: Health,
        callbacks: Arc<Callbacks>,
    ) -> Self {
        let config = LongConnectionConfig {
            max_reconnect_retries: settings.max_reconnect_retries,
            heartbeat_interval: settings.heartbeat_interval,
            fallback_to_http: settings.fallback_to_http,
            ..LongConnectionConfig::default()
        };
        Self {
            context,
            config,
            allow_unsigned,
            unknown: Some(health.register("applications")),
            health,
            callbacks,
            open: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Runs until `stopping`, then waits until every connection has finished its pushes.
    pub(crate) async fn run(mut self, stopping: CancellationToken) -> anyhow::Result<()> {
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                Some(ended) = self.tasks.join_next_with_id() => {
                    let (task, panicked) = match ended {
                        Ok((task, ())) => (task, false),
                        Err(error) => (error.id(), error.is_panic()),
                    };
                    self.forget(task);
                    if panicked {
                        // The next poll starts it again, not this one: it may panic again.
                        tracing::error!("gateway.connections: a long connection's task panicked and is started again");
                    } else {
                        poll.reset_immediately();
                    }
                }
                _ = poll.tick() => match timeout(STORE_TIMEOUT, self.context.applications(&ACTOR, self.context.now())).await {
                    Ok(Ok(applications)) => {
                        self.reconcile(applications, &stopping);
                        if let Some(part) = self.unknown.take() {
                            part.remove();
                        }
                    }
                    Ok(Err(error)) => tracing::warn!(%error, "gateway.connections: stay as they are"),
                    Err(_) => tracing::warn!("gateway.connections: the store is slow, they stay as they are"),
                },
            }
        }
        while self.tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Stops the connections of removed and changed applications and starts missing ones. A changed one starts again
    /// once its task has ended, so that an application never has two connections.
    ///
    /// An application that cannot be decrypted gets no connection: Lark then pushes to processes that can read it.
    fn reconcile(&mut self, applications: Vec<Registration>, stopping: &CancellationToken) {
        let wanted: BTreeMap<AppId, Application> = applications
            .into_iter()
            .filter(|listed| listed.enabled)
            .filter_map(|listed| Some((listed.app_id, listed.application.ok()?)))
            .collect();
        for (app_id, open) in &self.open {
            if wanted.get(app_id).is_none_or(|app| self.fingerprint(app) != open.fingerprint) {
                open.stop.cancel();
            }
        }
        for (app_id, application) in wanted {
            if !self.open.contains_key(&app_id) {
                self.open(&application, stopping.child_token());
            }
        }
    }

    fn open(&mut self, application: &Application, stop: CancellationToken) {
        let app_id = application.app_id.clone();
        let lark = self.context.lark();
        let connection = LongConnection::new(
            lark.http.clone(),
            lark.endpoints(application.brand).base_url.clone(),
            app_id.clone(),
            application.app_secret.clone(),
            self.config.clone(),
            Arc::new(Pushes::new(app_id.clone(), self.callbacks.clone())),
        )
        .with_network(lark.network.clone())
        .with_clock(self.context.clock().clone())
        .with_entropy(self.context.entropy().clone())
        .with_observer(Arc::new(AttemptCounter(self.context.metrics().clone())));
        let state = connection.subscribe();
        let reporter = StateReporter {
            part: self.health.register(format!("websocket:{app_id}")),
            metrics: self.context.metrics().clone(),
            app_id: app_id.clone(),
            http_is_set_up: application.can_verify_callbacks(self.allow_unsigned),
        };
        let (until, stopping) = (stop.clone(), stop.clone());
        let task = self.tasks.spawn(async move {
            // The second future ends with the first, which owns the sender of the state.
            tokio::join!(Box::pin(connection.run(until)), reporter.follow(state, &stopping));
        });
        self.open.insert(app_id, Open { task: task.id(), stop, fingerprint: self.fingerprint(application) });
    }

    fn forget(&mut self, task: Id) {
        let found = self.open.iter().find(|(_, open)| open.task == task).map(|(app_id, _)| app_id.clone());
        if let Some(app_id) = found {
            self.open.remove(&app_id);
            self.context.metrics().forget_app(app_id.as_str());
        }
    }

    /// Returns a digest of everything in a registration that its connection depends on.
    fn fingerprint(&self, application: &Application) -> [u8; 32] {
        let filled = |set: bool| if set { "1" } else { "0" };
        let parts = [
            application.app_secret.expose_secret(),
            self.context.lark().endpoints(application.brand).base_url.as_str(),
            filled(application.can_verify_callbacks(self.allow_unsigned)),
        ];
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// Reports the state of one connection in readiness and metrics.
struct StateReporter {
    part: HealthHandle,
    metrics: Metrics,
    app_id: AppId,
    /// Whether HTTP callbacks of this application could be verified.
    http_is_set_up: bool,
}

impl StateReporter {
    async fn follow(self, mut state: watch::Receiver<ConnectionState>, stopping: &CancellationToken) {
        let mut was_fallen_back = false;
        loop {
            let now = state.borrow_and_update().clone();
            self.show(&now);
            // Once, and not at each attempt that fails.
            if now.is_fallen_back() && !was_fallen_back && self.http_is_set_up {
                tracing::warn!(app_id = %self.app_id, "gateway.connections: HTTP callbacks take over from the long connection");
            }
            was_fallen_back = now.is_fallen_back();
            if state.changed().await.is_err() {
                break;
            }
        }
        // The part of a stopped connection goes. The part of a connection whose task died stays not ready.
        if stopping.is_cancelled() {
            self.part.remove();
        }
    }

    fn show(&self, state: &ConnectionState) {
        let app_id = self.app_id.as_str();
        self.metrics.websocket_connected(app_id, state.is_connected());
        self.metrics.websocket_fallback(app_id, state.is_fallen_back() && self.http_is_set_up);
        match state {
            ConnectionState::Connected { .. } => self.part.set_ready(),
            ConnectionState::FallenBack { .. } if self.http_is_set_up => self.part.set_ready(),
            ConnectionState::FallenBack { .. } => self.part.set_not_ready(
                "the long connection is given up for now, and HTTP callbacks cannot take over: set the application's \
                 encrypt key",
            ),
            ConnectionState::Connecting => self.part.set_not_ready("connecting"),
            // The number of failures is left out: it would make every attempt a change of readiness.
            ConnectionState::Reconnecting { .. } => self.part.set_not_ready("no long connection, reconnecting"),
            ConnectionState::Rejected { reason } => self.part.set_not_ready(reason.clone()),
            // `follow` removes the part.
            ConnectionState::Stopped => {}
        }
    }
}

struct AttemptCounter(Metrics);

impl LongConnectionObserver for AttemptCounter {
    fn connect_attempted(&self, app_id: &AppId, outcome: &'static str) {
        self.0.websocket_reconnected(app_id.as_str(), outcome);
    }
}
