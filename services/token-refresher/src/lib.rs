//! The token-refresher: what happens on schedule. Today: expiring invitations, mending cards, forgetting old events.
//!
//! What may live here: schedules, wiring and edges. What may not: a decision, SQL, AMQP. Another scheduled job is one
//! more line in [`JOBS`]; replicas may run the same job at once, the store keeps them apart.

use std::{pin::Pin, time::Duration};

use axum::Router;
use larkauth_auth::{AuthError, Context};
use larkauth_config::Settings;
use larkauth_runtime::{Process, Running};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

type Work = for<'a> fn(&'a Context) -> Pin<Box<dyn Future<Output = Result<u64, AuthError>> + Send + 'a>>;

/// A job and how often it runs.
struct Job {
    name: &'static str,
    every: Duration,
    work: Work,
}

const JOBS: &[Job] = &[
    Job {
        name: "expire invitations",
        every: Duration::from_secs(5),
        work: |context| Box::pin(async { Ok(context.expire_sessions().await? as u64) }),
    },
    Job {
        name: "mend cards",
        every: Duration::from_secs(60),
        work: |context| Box::pin(async { Ok(context.mend_cards().await? as u64) }),
    },
    Job {
        name: "forget old events",
        every: Duration::from_secs(600),
        work: |context| Box::pin(context.purge_events()),
    },
    Job {
        name: "update gauges",
        every: Duration::from_secs(15),
        work: |context| {
            Box::pin(async {
                context.update_gauges().await?;
                Ok(0)
            })
        },
    },
];

/// Starts the service; it works until [`Running::stop`].
///
/// # Errors
/// One line that says which part failed and the cure.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    let process = Process::start(&settings).await?;
    work(&process);
    process.serve(settings.http.addr, Router::new()).await
}

/// Spawns the service's tasks in a process that may hold others too.
pub fn work(process: &Process) {
    for job in JOBS {
        process.spawn(job.name, repeat(job, process.context.clone(), process.stopping.clone()));
    }
}

/// Runs a job again and again; a failed round is logged and the next one tries again.
async fn repeat(job: &'static Job, context: Context, stopping: CancellationToken) -> anyhow::Result<()> {
    // Replicas that start together do not stay in step.
    let first = Instant::now() + context.entropy.jitter(job.every / 2, 1.0);
    let mut ticks = interval_at(first, job.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        match (job.work)(&context).await {
            Ok(0) => tracing::debug!(job = job.name, "nothing to do"),
            Ok(done) => tracing::info!(job = job.name, done, "done"),
            Err(error) => tracing::error!(job = job.name, %error, "failed; the next round tries again"),
        }
    }
    Ok(())
}
