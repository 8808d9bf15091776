//! Scheduled work. A job is a value: a name, a schedule, a function. Replicas share the work: each tick of a job is claimed
//! in the store, and only the process that claimed it runs the job.
//!
//! To add a job: an operation in a module here, and an entry in [`all`].

mod job;
mod maintenance;
mod runner;

use std::time::Duration;

pub use job::{Job, Run, Scope};
pub use runner::run;

pub use crate::schedule::Schedule;

/// Returns the jobs of every process: each may hold tokens that neither store nor bus took, and has gauges of its own.
#[must_use]
pub fn of_every_process() -> Vec<Job> {
    vec![
        Job {
            name: "replay_spool",
            schedule: every(5),
            scope: Scope::Process,
            run: |context, actor, now, stopping| Box::pin(context.replay_spool(actor, now, stopping)),
        },
        Job {
            name: "update_process_gauges",
            // The usual interval of a scrape.
            schedule: every(15),
            scope: Scope::Process,
            run: |context, _, _, _| {
                Box::pin(async move {
                    tokio::join!(context.update_queue_gauges(), context.update_database_gauges());
                    Ok(0)
                })
            },
        },
    ]
}

/// Returns every other job of this project.
#[must_use]
pub fn all() -> Vec<Job> {
    vec![
        Job {
            name: "expire_sessions",
            schedule: every(5),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.expire_sessions(actor, now, stopping)),
        },
        Job {
            name: "announce_ends",
            schedule: every(5),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.announce_ends(actor, now, stopping)),
        },
        Job {
            name: "refresh_due_tokens",
            schedule: every(1),
            // The leases of the tokens divide the work.
            scope: Scope::Process,
            run: |context, actor, now, stopping| Box::pin(context.refresh_due_tokens(actor, now, stopping)),
        },
        Job {
            name: "poll_device_codes",
            schedule: every(1),
            // The claims of the sessions divide the work.
            scope: Scope::Process,
            run: |context, actor, now, stopping| Box::pin(context.poll_device_codes(actor, now, stopping)),
        },
        Job {
            name: "resume_exchanges",
            schedule: every(5),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.resume_exchanges(actor, now, stopping)),
        },
        Job {
            name: "reconcile_cards",
            schedule: every(60),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.reconcile_cards(actor, now, stopping)),
        },
        Job {
            name: "sync_people",
            schedule: every(60),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.sync_people(actor, now, stopping)),
        },
        Job {
            name: "announce_people",
            schedule: every(5),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.announce_people(actor, now, stopping)),
        },
        Job {
            name: "reauthorize",
            schedule: every(60),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.reauthorize(actor, now, stopping)),
        },
        Job {
            name: "purge_events",
            schedule: every(600),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.purge_events(actor, now, stopping)),
        },
        Job {
            name: "purge_sessions",
            schedule: every(600),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.purge_sessions(actor, now, stopping)),
        },
        Job {
            name: "purge_profiles",
            schedule: every(24 * 3600),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.purge_profiles(actor, now, stopping)),
        },
        Job {
            name: "purge_audit",
            schedule: every(600),
            scope: Scope::Cluster,
            run: |context, actor, now, stopping| Box::pin(context.purge_audit(actor, now, stopping)),
        },
        Job {
            name: "update_gauges",
            schedule: every(15),
            scope: Scope::Process,
            run: |context, _, now, _| {
                Box::pin(async move {
                    context.update_gauges(now).await?;
                    Ok(0)
                })
            },
        },
    ]
}

const fn every(seconds: u64) -> Schedule {
    Schedule::Interval(Duration::from_secs(seconds))
}
