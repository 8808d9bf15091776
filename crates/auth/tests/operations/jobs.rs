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
use larkauth_messaging::testing::eventually;
use larkauth_models::SystemClock;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, Fixture, running};

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
        eventually("the runs", async || runs.load(Ordering::SeqCst) >= at_least).await;
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

/// As many rows as make a scan of a table cost more than the use of an index, around the time of the fixture.
const FILL: &str = "
    insert into user_auth_sessions (session_id, app_id, open_id, asked_open_id, auth_method, state, scopes, card,
        oauth_state_sha256, message_id, card_face, created_at, expires_at, ended_at, announced_at)
    select gen_random_uuid(), 'cli_0123456789abcdef', 'ou_' || n % 900, 'ou_' || n % 900, 'oauth', 'rejected', '{}', '{}',
        sha256(n::text::bytea), 'om_' || n, 'declined', at, at + interval '10 minutes', at, at
    from (select n, to_timestamp(1790000000) - n * interval '1 minute' as at from generate_series(1, 6000) n) n;
    insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, scopes, issued_at, granted_at)
    select 'cli_0123456789abcdef', 'ou_' || n, 'user', '', now(), '{}', now(), now() from generate_series(1, 3000) n;
    insert into user_profiles (app_id, open_id, updated_at)
    select 'cli_0123456789abcdef', 'ou_' || n, now() from generate_series(1, 3100) n;
    insert into processed_events (consumer, event_id, processed_at)
    select 'cards', 'e-' || n, to_timestamp(1790000000) - n * interval '1 minute' from generate_series(1, 6000) n;
    insert into audit_log (audit_id, at, actor_kind, actor_id, action, outcome)
    select gen_random_uuid(), to_timestamp(1790000000) - n * interval '100 minutes', 'service', 'x', 'app.bootstrap', 'ok'
    from generate_series(1, 6000) n;
";

/// Each job runs for real, on filled tables, so a job that is added later is looked at too. The server counts the scans.
#[tokio::test]
async fn every_job_on_filled_tables_scans_none() {
    let fixture = Fixture::new().await;
    fixture.invited(0).await;
    let mut fill = fixture.database.connection().await;
    for statement in [FILL, "vacuum analyze"] {
        sqlx::raw_sql(statement).execute(&mut fill).await.unwrap();
    }
    sqlx::Connection::close(fill).await.unwrap();
    let mut db = fixture.database.connection().await;
    let before = scans(&mut db).await;
    assert_eq!(before.len(), 5, "{before:?}");

    let mut done = Vec::new();
    for job in jobs::all().into_iter().chain(jobs::of_every_process()) {
        let (context, now) = (&fixture.context, fixture.context.now());
        assert!(fixture.parts.store.claim_tick(job.name, now, now).await.unwrap(), "{}", job.name);
        // Often enough for a plan that is kept.
        for _ in 0..7 {
            done.push((job.name, (job.run)(context, &ACTOR, now, &running()).await.unwrap()));
        }
    }
    for (name, least) in [("purge_events", 3000), ("purge_audit", 700), ("purge_profiles", 100)] {
        let total: u64 = done.iter().filter(|(job, _)| *job == name).map(|(_, count)| count).sum();
        assert!(total >= least, "{name} has work to do: {total}");
    }
    // A connection that ends hands its counts in.
    fixture.parts.store.close().await;
    let others =
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                  and backend_type = 'client backend'";
    let ended = async {
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut db).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    assert_eq!(scans(&mut db).await, before);
    sqlx::raw_sql("select count(*) from user_profiles where name = 'x'").execute(&mut db).await.unwrap();
    sqlx::Connection::close(db).await.unwrap();
    let mut db = fixture.database.connection().await;
    assert_ne!(scans(&mut db).await, before, "the check detects a scan");
}

/// Returns how often each growing table was scanned from end to end.
async fn scans(db: &mut sqlx::PgConnection) -> Vec<(String, i64)> {
    let scans = "select relname::text, seq_scan from pg_stat_user_tables
                 where relname in ('user_auth_sessions', 'access_tokens', 'user_profiles', 'processed_events', 'audit_log')
                 order by relname";
    sqlx::query_as(scans).fetch_all(db).await.unwrap()
}
