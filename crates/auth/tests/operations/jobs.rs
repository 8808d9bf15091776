//! Scheduled jobs: replicas share the ticks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larkauth_auth::{
    Context, ContextParts,
    jobs::{self, Job, Schedule, Scope},
};
use larkauth_models::SystemClock;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, Fixture};

const EVERY: Duration = Duration::from_millis(200);
const REPLICAS: u64 = 3;

impl Fixture {
    /// Runs a job in several processes until it ran so often; returns how many ticks there can have been.
    async fn run_in_replicas(&self, job: &Job, runs: &AtomicU64, at_least: u64) -> u64 {
        let started = Instant::now();
        let stopping = CancellationToken::new();
        let mut replicas = JoinSet::new();
        for _ in 0..REPLICAS {
            let parts = ContextParts { clock: Arc::new(SystemClock), ..self.parts.clone() };
            replicas.spawn(jobs::run(job.clone(), Context::new(parts), ACTOR, stopping.clone()));
        }
        let enough = async {
            while runs.load(Ordering::SeqCst) < at_least {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), enough).await.unwrap();
        stopping.cancel();
        replicas.join_all().await;
        u64::try_from(started.elapsed().as_millis() / EVERY.as_millis()).unwrap() + 1
    }
}

#[tokio::test]
async fn cluster_job_in_replicas_runs_each_tick_once() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let fixture = Fixture::new().await;
    let job = Job {
        name: "cluster_job",
        schedule: Schedule::Interval(EVERY),
        scope: Scope::Cluster,
        run: |_, _, _, _| Box::pin(async { Ok(RUNS.fetch_add(1, Ordering::SeqCst)) }),
    };
    let ticks = fixture.run_in_replicas(&job, &RUNS, 3).await;
    let runs = RUNS.load(Ordering::SeqCst);
    assert!(runs <= ticks, "{runs} runs in {ticks} ticks");
}

#[tokio::test]
async fn process_job_in_replicas_runs_in_each() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let fixture = Fixture::new().await;
    let job = Job {
        name: "process_job",
        schedule: Schedule::Interval(EVERY),
        scope: Scope::Process,
        run: |_, _, _, _| Box::pin(async { Ok(RUNS.fetch_add(1, Ordering::SeqCst)) }),
    };
    fixture.run_in_replicas(&job, &RUNS, 2 * REPLICAS).await;
    // The store knows no tick of it.
    let first = larkauth_models::Timestamp::UNIX_EPOCH;
    assert!(fixture.parts.store.claim_tick("process_job", first, first).await.unwrap());
}

#[test]
fn all_jobs_have_distinct_names() {
    let mut names: Vec<_> =
        jobs::all().into_iter().chain(jobs::of_every_process()).map(|job| job.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
