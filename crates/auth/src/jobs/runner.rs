use larkauth_models::{Actor, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    job::{Job, Scope},
    schedule::Schedule,
};
use crate::context::Context;

/// Runs a job at its ticks until `stopping`. A run that has begun ends at its next step then. A failed run is logged; the next tick tries
/// again. Ticks that pass during a run are skipped.
pub async fn run(job: Job, context: Context, actor: Actor, stopping: CancellationToken) {
    let mut last = context.now();
    loop {
        let now = context.now();
        let Some(tick) = job.schedule.next_after(now.max(last)) else {
            tracing::warn!(job = job.name, "auth.job.over: the schedule has no more ticks");
            stopping.cancelled().await;
            return;
        };
        if stopping.run_until_cancelled(tokio::time::sleep(Schedule::wait(tick, now))).await.is_none() {
            return;
        }
        last = tick;
        run_tick(&job, &context, &actor, tick, &stopping).await;
    }
}

async fn run_tick(
    job: &Job,
    context: &Context,
    actor: &Actor,
    tick: Timestamp,
    stopping: &CancellationToken,
) {
    let claimed = match job.scope {
        Scope::Process => Ok(true),
        Scope::Cluster => context.store.claim_tick(job.name, tick).await,
    };
    match claimed {
        Ok(true) => {}
        Ok(false) => {
            tracing::debug!(job = job.name, "another process runs this tick");
            return;
        }
        Err(error) => {
            tracing::error!(job = job.name, %error, "the tick was not claimed; the next tick tries again");
            return;
        }
    }
    match (job.run)(context, actor, context.now(), stopping).await {
        Ok(0) => tracing::debug!(job = job.name, "nothing to do"),
        Ok(done) => tracing::info!(job = job.name, done, "done"),
        Err(error) => tracing::error!(job = job.name, %error, "failed; the next tick tries again"),
    }
}
