//! `/console/`: the state of this process, as `/health` tells it, and of what all processes share.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use larkauth_auth::{AppOverview, BudgetOverview, SpoolState};
use larkauth_models::{Actor, AppId};
use larkauth_telemetry::{HealthPart, HealthStatus};

use crate::{
    format::{When, plain},
    shell::{Shell, page},
    state::Console,
    visit::{AnyKey, Visit},
    words::{self, Badge},
};

/// Prefix of the part of an application's long connection.
const CONNECTION: &str = "websocket:";

struct PartRow {
    name: String,
    state: Badge,
    since: When,
    reason: String,
}

struct QueueRow {
    name: &'static str,
    waiting: Option<u64>,
}

struct AppRow {
    app_id: String,
    enabled: Badge,
    breaker: Badge,
    reason: String,
    since: Option<When>,
    is_unreadable: bool,
}

struct BudgetRow {
    app_id: String,
    class: &'static str,
    /// At most 100.
    bar: u32,
    used: Option<u32>,
    wait_ms: u128,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    is_ok: bool,
    failing: usize,
    connections: Vec<PartRow>,
    parts: Vec<PartRow>,
    queues: Vec<QueueRow>,
    dead_letters: Option<u64>,
    apps: Option<Vec<AppRow>>,
    budgets: Vec<BudgetRow>,
    spool: Option<SpoolState>,
    reserve: usize,
}

pub(crate) async fn show(State(console): State<Arc<Console>>, visit: Visit<AnyKey>) -> Response {
    let overview = visit.context.overview(&visit.actor, visit.now).await;
    let report = console.health.report();
    let row = |part: HealthPart| part_row(&visit, part);
    let visible = report.parts.into_iter().filter(|part| is_visible(&visit.actor, &part.name));
    let (connections, parts): (Vec<HealthPart>, Vec<HealthPart>) =
        visible.partition(|part| part.name.starts_with(CONNECTION));
    let failing = connections.iter().chain(&parts).filter(|part| !part.is_ok()).count();
    page(&OverviewPage {
        shell: visit.shell(),
        is_ok: failing == 0 && report.status == HealthStatus::Ok,
        failing,
        connections: connections.into_iter().map(row).collect(),
        parts: parts.into_iter().map(row).collect(),
        queues: overview
            .queues
            .into_iter()
            .map(|(queue, waiting)| QueueRow { name: queue.name(), waiting })
            .collect(),
        dead_letters: overview.dead_letters,
        apps: overview.applications.map(|apps| apps.into_iter().map(|app| app_row(&visit, app)).collect()),
        budgets: overview.budgets.iter().map(budget_row).collect(),
        spool: overview.spool,
        reserve: SpoolState::RESERVE,
    })
}

/// Returns whether the actor sees a part: the connections of its own applications, and what belongs to none.
fn is_visible(actor: &Actor, part: &str) -> bool {
    match part.strip_prefix(CONNECTION) {
        Some(app_id) => AppId::new(app_id).is_ok_and(|app_id| actor.may_use_app(&app_id)),
        None => true,
    }
}

fn part_row(visit: &Visit<AnyKey>, part: HealthPart) -> PartRow {
    let is_restricted = visit.actor.access().is_some_and(|access| !access.app_ids.is_empty());
    // The reason of a common part may name any application.
    let hides_reason = is_restricted && !part.name.starts_with(CONNECTION);
    PartRow {
        name: part.name.trim_start_matches(CONNECTION).to_owned(),
        state: words::part(visit.lang, part.state),
        since: When::new(visit.lang, visit.now, part.since),
        reason: part.reason.filter(|_| !hides_reason).map(|reason| plain(&reason)).unwrap_or_default(),
    }
}

fn app_row(visit: &Visit<AnyKey>, app: AppOverview) -> AppRow {
    let (since, reason) = app.breaker.unzip();
    AppRow {
        app_id: app.app_id.to_string(),
        enabled: words::enabled(visit.lang, app.enabled),
        breaker: words::breaker(visit.lang, since.is_some()),
        reason: reason.map(|reason| plain(&reason)).unwrap_or_default(),
        since: When::maybe(visit.lang, visit.now, since),
        is_unreadable: app.is_unreadable,
    }
}

fn budget_row(budget: &BudgetOverview) -> BudgetRow {
    BudgetRow {
        app_id: budget.app_id.to_string(),
        class: budget.class,
        bar: budget.used.unwrap_or(0).min(100),
        used: budget.used,
        wait_ms: budget.wait.unwrap_or_default().as_millis(),
    }
}
