//! SIGKILL before and after every step of a refresh: the steps are those that the code lists.
//!
//! The process that dies is this test program, started anew with one test and a hook that sends the signal. What is left
//! is repaired by processes that are not killed. A login may end only where the new pair was in memory alone.

#![expect(clippy::print_stdout, reason = "the parent process reads the standard output")]

use std::{collections::BTreeSet, process::Stdio, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use chrono::TimeDelta;
use futures::future::try_join_all;
use larkauth_auth::{AuthError, FaultPoint, Faults, SideEffect};
use larkauth_config::{LoadOptions, Service, Settings};
use larkauth_lark_sim::{Effect, Endpoint, Fault, ViolationKind};
use larkauth_models::{Actor, AppId, OpenId, StoredToken, SystemClock};
use larkauth_telemetry::Metrics;
use larkauth_tests::{Kind, Options, TIMEOUT, World, eventually};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use FaultPoint::{After, Before};

/// What the process does.
const ROLE: &str = "LARKAUTH_TEST_ROLE";
/// For whom.
const PERSON: &str = "LARKAUTH_TEST_PERSON";
/// Where it is killed.
const KILLED_AT: &str = "LARKAUTH_TEST_KILLED_AT";
const ACTOR: Actor = Actor::service("test");

/// Prints every fault point, and kills the process at one.
struct Kill(Option<String>);

impl Faults for Kill {
    fn reached(&self, point: FaultPoint) {
        let name = format!("{point:?}");
        println!("reached {name}");
        if self.0.as_ref() == Some(&name) {
            let pid = std::process::id().to_string();
            drop(std::process::Command::new("kill").args(["-9", &pid]).status());
            unreachable!("SIGKILL ends the process");
        }
    }
}

/// The process that [`run`] starts. In the test run it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn process_of_one_role() -> anyhow::Result<()> {
    let Ok(role) = std::env::var(ROLE) else { return Ok(()) };
    let settings = Settings::load(&LoadOptions { config_file: None, service: Service::Gateway })?;
    let context = larkauth_runtime::connect(&settings, Metrics::new()?, Arc::new(SystemClock)).await?;
    let context = context.with_faults(Arc::new(Kill(std::env::var(KILLED_AT).ok())));
    let now = context.now();
    let (app_id, person) = (AppId::new(std::env::var("APP_ID")?)?, OpenId::new(std::env::var(PERSON)?)?);
    match role.as_str() {
        "caller" => report(context.refresh_token(&ACTOR, now, &app_id, &person, None).await),
        "reader" => {
            report(context.valid_token(&ACTOR, now, &app_id, &person, TimeDelta::minutes(1), &[]).await);
        }
        "refresher" => drop(context.refresh_due_tokens(&ACTOR, now, &CancellationToken::new()).await?),
        "spool" => drop(context.replay_spool(&ACTOR, now, &CancellationToken::new()).await?),
        role => bail!("{role} is no role"),
    }
    context.finish_refreshes().await;
    Ok(())
}

fn report(served: Result<Arc<StoredToken>, AuthError>) {
    match served {
        Ok(token) => println!("generation {}", token.generation),
        Err(error) => println!("refused: {error:?}"),
    }
}

/// Circumstances of a refresh.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scenario {
    /// A caller reads the token.
    Caller,
    /// The token is due.
    Refresher,
    /// The database takes the lease and refuses the pair.
    DatabaseRefuses,
    /// The database refuses the pair, and the bus cannot be reached.
    BusIsAway,
    /// A file of the spool is moved to the database.
    Replay,
    /// Lark says that the refresh token is used up.
    TokenRefused,
    /// Lark refuses the application.
    ApplicationRefused,
    /// Lark accepts the application again.
    ApplicationAccepted,
}

impl Scenario {
    const ALL: [Self; 8] = [
        Self::Caller,
        Self::Refresher,
        Self::DatabaseRefuses,
        Self::BusIsAway,
        Self::Replay,
        Self::TokenRefused,
        Self::ApplicationRefused,
        Self::ApplicationAccepted,
    ];

    const fn role(self) -> &'static str {
        match self {
            Self::Refresher => "refresher",
            Self::Replay => "spool",
            _ => "caller",
        }
    }

    /// Whether the only place of the new pair is the memory of the process.
    fn is_pair_in_memory_only(self, point: FaultPoint) -> bool {
        let last = match self {
            Self::Caller | Self::Refresher | Self::ApplicationAccepted => Before(SideEffect::StorePair),
            Self::DatabaseRefuses => Before(SideEffect::PublishPair),
            Self::BusIsAway => Before(SideEffect::SpoolPair),
            Self::Replay | Self::TokenRefused | Self::ApplicationRefused => return false,
        };
        let order = [
            After(SideEffect::Call),
            Before(SideEffect::StorePair),
            After(SideEffect::StorePair),
            Before(SideEffect::PublishPair),
            After(SideEffect::PublishPair),
            Before(SideEffect::SpoolPair),
        ];
        let position = |point| order.iter().position(|known| *known == point);
        position(point).is_some_and(|at| Some(at) <= position(last))
    }

    /// Whether a kill at this point differs from one in an earlier scenario.
    fn is_new(self, point: FaultPoint) -> bool {
        use SideEffect::{CloseBreaker, PublishPair, SpoolPair, StorePair};
        match self {
            Self::DatabaseRefuses => {
                [After(StorePair), Before(PublishPair), After(PublishPair)].contains(&point)
            }
            Self::BusIsAway => [After(PublishPair), Before(SpoolPair), After(SpoolPair)].contains(&point),
            Self::ApplicationAccepted => [Before(CloseBreaker), After(CloseBreaker)].contains(&point),
            _ => true,
        }
    }

    /// Whether the login has ended rightly.
    fn ends_login(self, point: FaultPoint) -> bool {
        self == Self::TokenRefused && point == After(SideEffect::EndLease)
    }
}

/// The statements that store a pair, and no others, fail.
const BREAK: &str = "create or replace function refuse() returns trigger language plpgsql as
     $$ begin raise exception 'refused by the test' using errcode = 'check_violation'; end $$;
     create trigger broken before update of generation on access_tokens for each row execute function refuse()";
const MEND: &str = "drop trigger if exists broken on access_tokens";
/// Every lease and every pause is over, and the breaker lets a call through.
const TIME_PASSES: &str = "update access_tokens set lease_until = clock_timestamp() where lease_owner is not null;
     update access_tokens set next_attempt_at = clock_timestamp() - interval '1 second';
     update applications set frozen_since = clock_timestamp() - interval '1 hour' where frozen_since is not null";

struct Stage {
    world: World,
    spool: tempfile::TempDir,
    person: String,
}

impl Stage {
    async fn sql(&self, statements: &'static str) -> anyhow::Result<()> {
        sqlx::raw_sql(statements).execute(&mut self.world.database.connection().await).await?;
        Ok(())
    }

    async fn token(&self) -> anyhow::Result<(String, i64)> {
        let row = sqlx::query_as("select status, generation from access_tokens where open_id = $1");
        let mut database = self.world.database.connection().await;
        let row: Option<(String, i64)> = row.bind(&self.person).fetch_optional(&mut database).await?;
        Ok(row.unwrap_or_default())
    }

    /// Runs a process in this role to its end. Returns its standard output.
    async fn run(&self, role: &str, killed_at: Option<FaultPoint>, bus: bool) -> anyhow::Result<String> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--exact", "refresh_kills::process_of_one_role", "--nocapture"])
            .env_clear()
            .envs(self.world.env(Kind::Gateway))
            .env("ESCROW_SPOOL_DIR", self.spool.path())
            .env(ROLE, role)
            .env(PERSON, &self.person)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(point) = killed_at {
            command.env(KILLED_AT, format!("{point:?}"));
        }
        if !bus {
            command.env("AMQP_URL", "amqp://guest:guest@127.0.0.1:1/%2f");
        }
        let output = tokio::time::timeout(2 * TIMEOUT, command.output()).await.context("no end")??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = !output.status.success() && killed_at.is_none();
        ensure!(!failed, "{role}: {}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        Ok(text)
    }

    /// Brings the circumstances about.
    async fn prepare(&self, scenario: Scenario) -> anyhow::Result<()> {
        let (status, _) = self.token().await?;
        if status != "active" && status != "outcome_unknown" {
            let asked = self.world.ask(0).await?;
            self.world.sim.follow(&self.world.consent(&asked).await?).await?;
            self.world.shows(&asked, "green").await?;
        }
        self.sql(TIME_PASSES).await?;
        match scenario {
            Scenario::Caller | Scenario::Refresher => {}
            Scenario::DatabaseRefuses | Scenario::BusIsAway => self.sql(BREAK).await?,
            Scenario::Replay => {
                self.sql(BREAK).await?;
                self.run("caller", None, false).await?;
                self.sql(MEND).await?;
            }
            Scenario::TokenRefused => self.refuse(20_073),
            Scenario::ApplicationRefused => self.refuse(20_002),
            Scenario::ApplicationAccepted => {
                self.sql(
                    "update applications set frozen_since = clock_timestamp() - interval '1 hour',
                         frozen_reason = 'test'",
                )
                .await?;
            }
        }
        Ok(())
    }

    fn refuse(&self, code: i64) {
        let refused = Effect::Answer { status: 400, code };
        self.world.sim.faults().push(Fault::at(Endpoint::TokenRefresh, refused));
    }

    /// Ends the faults and has other processes go on until the token is refreshed, or has ended. Returns its status.
    async fn repair(&self) -> anyhow::Result<String> {
        self.world.sim.faults().clear();
        self.sql(MEND).await?;
        eventually(3 * TIMEOUT, async || {
            self.sql(TIME_PASSES).await?;
            self.run("spool", None, true).await?;
            if self.run("caller", None, true).await?.contains("generation ") {
                return Ok(Some("refreshed".to_owned()));
            }
            let (status, _) = self.token().await?;
            Ok((status != "active" && status != "outcome_unknown").then_some(status))
        })
        .await
    }

    /// Waits until the pair on the bus is in the row.
    async fn arrival(&self) -> anyhow::Result<()> {
        let (_, generation) = self.token().await?;
        self.sql(MEND).await?;
        eventually(3 * TIMEOUT, async || Ok((self.token().await?.1 > generation).then_some(()))).await
    }

    /// Kills a process at this point, if it gets there, and checks what comes of it. Returns the points it reached.
    async fn kill(&self, scenario: Scenario, point: FaultPoint) -> anyhow::Result<BTreeSet<String>> {
        self.prepare(scenario).await?;
        let violations = self.world.sim.violations().len();
        let output = self.run(scenario.role(), Some(point), scenario != Scenario::BusIsAway).await?;
        let reached =
            output.lines().filter_map(|line| line.strip_prefix("reached ")).map(str::to_owned).collect();
        let was_killed = output.contains(&format!("reached {point:?}"));
        if scenario == Scenario::DatabaseRefuses && point == After(SideEffect::PublishPair) {
            self.arrival().await?;
        }
        let status = self.repair().await?;
        let case = format!("{scenario:?} killed at {point:?}: {status}\n{output}");
        let is_lost = was_killed && scenario.is_pair_in_memory_only(point);
        let has_ended =
            is_lost || (scenario == Scenario::TokenRefused && (!was_killed || scenario.ends_login(point)));
        let expected = if has_ended { "reauthorization_required" } else { "refreshed" };
        ensure!(status == expected, "{expected} is right: {case}");
        // The pair that died with its process had been delivered, and its refresh token is tried once more.
        let new = self.world.sim.violations().split_off(violations);
        let is_excused = |kind| is_lost && kind == ViolationKind::RefreshReplayed;
        ensure!(new.iter().all(|violation| is_excused(violation.kind)), "{new:?}: {case}");
        Ok(reached)
    }
}

async fn stage() -> anyhow::Result<Stage> {
    let start = vec![Kind::Gateway, Kind::AuthWorker];
    let world = World::start(Options { start, ..Options::default() }).await?;
    let person = world.person(0);
    Ok(Stage { world, spool: tempfile::tempdir()?, person })
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_processes_that_read_one_expired_token_refresh_once() -> anyhow::Result<()> {
    let stage = stage().await?;
    stage.prepare(Scenario::Caller).await?;
    let refreshes = || stage.world.sim.stats().calls(Endpoint::TokenRefresh);
    for generation in 2..=3 {
        stage.sql("update access_tokens set access_expires_at = clock_timestamp()").await?;
        stage.world.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::Latency(1000)));
        let before = refreshes();
        let outputs = try_join_all((0..20).map(|_| stage.run("reader", None, true))).await?;
        for output in &outputs {
            ensure!(output.contains(&format!("generation {generation}")), "{output}");
        }
        assert_eq!(refreshes() - before, 1, "one of twenty refreshes");
    }
    stage.world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_loses_no_pair_but_one_in_memory() -> anyhow::Result<()> {
    let stage = stage().await?;
    let mut reached = BTreeSet::new();
    for scenario in Scenario::ALL {
        // The first run is killed nowhere, and tells which points there are.
        stage.prepare(scenario).await?;
        let output = stage.run(scenario.role(), None, scenario != Scenario::BusIsAway).await?;
        stage.repair().await?;
        let is_reached = |point: &FaultPoint| output.contains(&format!("reached {point:?}"));
        for point in FaultPoint::all().filter(|point| is_reached(point) && scenario.is_new(*point)) {
            reached.extend(stage.kill(scenario, point).await?);
        }
    }
    let all: BTreeSet<String> = FaultPoint::all().map(|point| format!("{point:?}")).collect();
    assert_eq!(reached, all, "every fault point of the code is tried");
    stage.world.sim.shutdown().await;
    Ok(())
}
