use std::time::Duration;

use chrono::TimeDelta;
use larkauth_models::{Actor, Timestamp};
use tokio_util::sync::CancellationToken;

use super::job::{Job, Scope};
use crate::{context::Context, schedule::Schedule};

/// Longest sleep without a look at the clock: 30 s.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Largest step back of the clock that counts as its ordinary correction: 30 s.
const MAX_STEP: TimeDelta = TimeDelta::seconds(30);

/// Runs a job at its ticks until `stopping`. A run that has begun ends at its next step then. A failed run is logged; the
/// next tick tries
/// again. Ticks that pass during a run are skipped.
pub async fn run(job: Job, context: Context, actor: Actor, stopping: CancellationToken) {
    let mut last = context.now();
    loop {
        let now = context.now();
        // A clock that was set back does not stop the job until it has caught up.
        if last - now > MAX_STEP {
            tracing::warn!(job = job.name, %now, %last, "auth.job.clock: the clock was set back");
            last = now;
        }
        let Some(tick) = job.schedule.next_after(now.max(last)) else {
            tracing::warn!(job = job.name, "auth.job.over: the schedule has no more ticks");
            stopping.cancelled().await;
            return;
        };
        let wait = Schedule::wait(tick, now);
        if stopping.run_until_cancelled(tokio::time::sleep(wait.min(LONGEST_SLEEP))).await.is_none() {
            return;
        }
        // The clock may have been changed meanwhile.
        if wait > LONGEST_SLEEP && context.now() < tick {
            continue;
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
        Scope::Cluster => context.store.claim_tick(job.name, tick, context.now()).await,
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
