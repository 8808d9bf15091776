//! The token-refresher runs the scheduled jobs of `larkauth-auth`: refreshing tokens, expiring sessions, announcing ends, resuming
//! exchanges, reconciling cards, looking people up, asking people again, purging what is older than its retention.
//!
//! What may live here: wiring and edges. What may not: a decision, SQL, AMQP. A job is an entry in
//! [`larkauth_auth::jobs::all`]; replicas share its ticks.

use axum::Router;
use larkauth_auth::jobs;
use larkauth_config::Settings;
use larkauth_models::Actor;
use larkauth_runtime::{Process, Routes, ServiceHandle};

/// This service, as operations see it.
const ACTOR: Actor = Actor::service("token-refresher");

/// Starts the service; it works until [`ServiceHandle::stop`].
///
/// # Errors
/// One line that says which part failed and the cure.
pub async fn start(settings: Settings) -> anyhow::Result<ServiceHandle> {
    let process = Process::start(&settings).await?;
    spawn_tasks(&process);
    process.serve(Routes::on_one_listener(Router::new()))
}

/// Spawns the service's tasks in a process that may hold others too.
pub fn spawn_tasks(process: &Process) {
    for job in jobs::all() {
        process.spawn_job(job, ACTOR);
    }
}
