use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use axum::Router;
use larkauth_auth::{
    Context, DatabaseClock, check_keys_open,
    jobs::{self, Job},
};
use larkauth_config::Settings;
use larkauth_messaging::BusHealth;
use larkauth_models::{Actor, Clock, SystemClock};
use larkauth_telemetry::{Health, Metrics, MetricsExporter};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Routes, Shortcut,
    admin::{admin_routes, liveness},
    database_probe::DatabaseProbe,
    listeners::Listeners,
};

/// How often the database is asked whether it is there.
const PROBE: Duration = Duration::from_secs(5);

/// Returns the clock of a service: the database's, as soon as it is connected.
#[must_use]
pub fn database_clock() -> Arc<dyn Clock> {
    Arc::new(DatabaseClock::new(Arc::new(SystemClock)))
}

/// A service process being put together.
pub struct Process {
    /// The way to every operation.
    pub context: Context,
    /// The parts that report their state.
    pub health: Health,
    /// Cancelled when the process is to stop: take no new work, finish work in progress.
    pub stopping: CancellationToken,
    tasks: TaskTracker,
    failed: mpsc::Sender<anyhow::Error>,
    failures: mpsc::Receiver<anyhow::Error>,
    grace: Duration,
    /// Bound, and not served yet.
    listeners: Option<Listeners>,
}

/// Handle of a running service process.
pub struct ServiceHandle {
    /// Where its HTTP server listens.
    pub addr: SocketAddr,
    /// Where its second HTTP server listens, for browsers and Lark.
    pub public_addr: Option<SocketAddr>,
    /// The way to every operation, for processes that hold several services.
    pub context: Context,
    /// The parts that report their state.
    pub health: Health,
    stopping: CancellationToken,
    tasks: TaskTracker,
    failures: mpsc::Receiver<anyhow::Error>,
    grace: Duration,
}

impl Process {
    /// Binds the addresses of the settings, then connects to everything they name, and watches it from then on.
    ///
    /// # Errors
    /// One line that says which part failed and the cure.
    pub async fn start(settings: &Settings) -> anyhow::Result<Self> {
        Self::start_at(settings, database_clock()).await
    }

    /// As [`Process::start`], by this clock.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub async fn start_at(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let listeners = Listeners::bind(&settings.http).await?;
        let metrics = Metrics::new()?;
        let context = crate::bootstrap::connect(settings, metrics, clock).await?;
        let actor = crate::bootstrap::actor(settings);
        // Before the first time is stored.
        context.ping_database().await?;
        context.look_at_encryption_keys().await?;
        check_keys_open(&context.applications(&actor, context.now()).await?)?;
        let unregistered = (!crate::bootstrap::register(&context, settings).await?).then(|| settings.clone());
        let exporter = MetricsExporter::new(&settings.telemetry, SystemClock.now())?;
        // After every check that ends a start: others are not ready without a noted key. Before the first value is encrypted.
        context.note_encryption_key().await;
        let (failed, failures) = mpsc::channel(8);
        let process = Self {
            health: Health::new(context.clock().clone()),
            context,
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            failed,
            failures,
            grace: settings.shutdown_grace,
            listeners: Some(listeners),
        };
        process.watch_database();
        process.watch_bus();
        process.watch_spool();
        for job in jobs::of_every_process() {
            process.spawn_job(job, actor.clone());
        }
        process.watch_registrations(actor, unregistered);
        process.write_audit();
        process.export_metrics(exporter.zip(settings.telemetry.export_metrics));
        Ok(process)
    }

    /// Spawns a task that lives as long as the process. If it ends earlier, or panics, the process stops with an error
    /// instead of living on without it.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (failed, stopping) = (self.failed.clone(), self.stopping.clone());
        let task = self.tasks.spawn(task);
        self.tasks.spawn(async move {
            let error = match task.await {
                Ok(Ok(())) if stopping.is_cancelled() => return,
                Ok(Ok(())) => anyhow::anyhow!("{name} ended before the process was stopped"),
                Ok(Err(error)) => error.context(name),
                Err(join) => {
                    anyhow::anyhow!("{name} {}", if join.is_panic() { "panicked" } else { "was cancelled" })
                }
            };
            // A full channel means that the process is stopping for another failure already.
            let _ = failed.try_send(error);
            stopping.cancel();
        });
    }

    /// Spawns a scheduled job.
    pub fn spawn_job(&self, job: Job, actor: Actor) {
        let (context, stopping) = (self.context.clone(), self.stopping.clone());
        self.spawn(job.name, async move {
            jobs::run(job, context, actor, stopping).await;
            Ok(())
        });
    }

    /// Serves HTTP on one or two listeners; a request in progress when the process stops is finished. Each server has its
    /// own limits, so that connections to one take no room of the other.
    ///
    /// # Errors
    /// When routes for browsers and Lark are given apart, and there is no listener for them.
    pub fn serve(mut self, routes: Routes) -> anyhow::Result<ServiceHandle> {
        let Some(Listeners { private, addr, public }) = self.listeners.take() else {
            bail!("the listeners of this process serve already");
        };
        let mut public_addr = None;
        if let Some(public_routes) = routes.public {
            let (listener, bound) = public.context("PUBLIC_HTTP_ADDR is not set")?;
            self.spawn_server("the public HTTP server", listener, public_routes.merge(liveness()), None);
            tracing::info!(addr = %bound, "listening for browsers and Lark");
            public_addr = Some(bound);
        }
        let admin = admin_routes(self.health.clone(), self.context.metrics().clone());
        self.spawn_server("the HTTP server", private, routes.private.merge(admin), routes.shortcut);
        tracing::info!(%addr, "listening");
        Ok(ServiceHandle {
            addr,
            public_addr,
            context: self.context,
            health: self.health,
            stopping: self.stopping,
            tasks: self.tasks,
            failures: self.failures,
            grace: self.grace,
        })
    }

    fn spawn_server(
        &self,
        name: &'static str,
        listener: TcpListener,
        routes: Router,
        shortcut: Option<Arc<dyn Shortcut>>,
    ) {
        let stopping = self.stopping.clone();
        self.spawn(name, async move {
            crate::serve(listener, routes, shortcut, stopping).await;
            Ok(())
        });
    }

    fn watch_database(&self) {
        let probe = DatabaseProbe::new(self.context.clone(), &self.health);
        let stopping = self.stopping.clone();
        self.spawn("the database probe", async move {
            loop {
                probe.look().await;
                if stopping.run_until_cancelled(tokio::time::sleep(PROBE)).await.is_none() {
                    return Ok(());
                }
            }
        });
    }

    fn watch_spool(&self) {
        let part = self.health.register("escrow_spool");
        let (context, stopping) = (self.context.clone(), self.stopping.clone());
        self.spawn("the spool probe", async move {
            loop {
                match context.check_spool().await {
                    Ok(()) => part.set_ready(),
                    Err(reason) => part.set_not_ready(reason),
                }
                if stopping.run_until_cancelled(tokio::time::sleep(PROBE)).await.is_none() {
                    return Ok(());
                }
            }
        });
    }

    fn watch_registrations(&self, actor: Actor, unregistered: Option<Settings>) {
        let part = self.health.register("registrations");
        let (context, stopping) = (self.context.clone(), self.stopping.clone());
        self.spawn("the registration watch", async move {
            crate::registrations::Watch::new(part, unregistered).run(context, actor, stopping).await;
            Ok(())
        });
    }

    fn write_audit(&self) {
        let (context, stopping) = (self.context.clone(), self.stopping.clone());
        self.spawn("the audit writer", async move {
            context.write_audit(stopping).await;
            Ok(())
        });
    }

    /// Sends metrics to the collector if that is set; the guard of telemetry does it once more at the end. A collector that does
    /// not take them is a warning, once until it takes them again, and delays no stop.
    fn export_metrics(&self, exporter: Option<(MetricsExporter, Duration)>) {
        let Some((exporter, interval)) = exporter else { return };
        let (metrics, stopping) = (self.context.metrics().clone(), self.stopping.clone());
        larkauth_telemetry::export_at_end(exporter.clone(), metrics.clone());
        self.spawn("the export of metrics", async move {
            let mut failing = false;
            loop {
                let export = async {
                    tokio::time::sleep(interval).await;
                    exporter.export(&metrics, SystemClock.now()).await
                };
                let Some(exported) = stopping.run_until_cancelled(export).await else { return Ok(()) };
                match &exported {
                    Err(error) if !failing => tracing::warn!(%error, "metrics are not exported"),
                    Ok(()) if failing => tracing::info!("metrics are exported again"),
                    _ => {}
                }
                failing = exported.is_err();
            }
        });
    }

    fn watch_bus(&self) {
        let part = self.health.register("bus");
        let (mut health, metrics, stopping) =
            (self.context.bus_health(), self.context.metrics().clone(), self.stopping.clone());
        self.spawn("the bus watch", async move {
            loop {
                let state = health.borrow_and_update().clone();
                metrics.bus_up(!matches!(state, BusHealth::Down { .. }));
                match state {
                    BusHealth::Up => part.set_ready(),
                    BusHealth::Blocked { reason } => part.set_not_ready(format!(
                        "blocked: the broker takes no messages ({reason}); free memory or disk on its machine"
                    )),
                    BusHealth::Down { reason } => part.set_not_ready(reason),
                }
                match stopping.run_until_cancelled(health.changed()).await {
                    Some(Ok(())) => {}
                    Some(Err(_)) => anyhow::bail!("the bus is gone"),
                    None => return Ok(()),
                }
            }
        });
    }
}

impl ServiceHandle {
    /// Asks the process to stop; returns at once.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Cancelled when the process stops, for any reason.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Waits until all work in progress is finished (after [`ServiceHandle::stop`]) or a long-lived task failed.
    ///
    /// # Errors
    /// The first failure of a long-lived task, or that the grace period was too short.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        self.stopping.cancelled().await;
        self.tasks.close();
        let finishing = async { tokio::join!(self.tasks.wait(), self.context.finish_refreshes()) };
        let in_time = tokio::time::timeout(self.grace, finishing).await.is_ok();
        // Connections close last: work in progress may have needed them.
        self.context.close().await;
        if let Ok(error) = self.failures.try_recv() {
            return Err(error);
        }
        anyhow::ensure!(
            in_time,
            "work in progress was not finished within SHUTDOWN_GRACE_SECONDS ({} s); it will be done again elsewhere",
            self.grace.as_secs()
        );
        tracing::info!("stopped");
        Ok(())
    }
}
