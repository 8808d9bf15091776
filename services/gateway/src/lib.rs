//! The gateway: everything that comes in from outside. Long connections and HTTP callbacks of Lark, browsers back from
//! the consent page, the REST API with its documentation.
//!
//! What may live here: edges. What may not: a decision about authorization (those are operations of `larkauth-auth`), SQL,
//! AMQP.
//!
//! By module: `connections` owns one long connection per application and `http_callbacks` is its HTTP twin; both hand each
//! callback to `callbacks`. `redirect` shows a person the outcome. `api` holds the REST API, `extract` its extractors,
//! `token_reads` answers most reads of tokens before the router. `problem` holds every error answer, `docs` the pages about the API, `console` the operator's pages of `larkauth-console`. `router` puts the routers together, each with its
//! `limits`, inside the common `middleware` (`location` keeps redirects right behind a proxy), and says which listener serves which. `state` is what the handlers share.
//!
//! To add an endpoint: its bodies in `larkauth_contracts::rest`; a handler in `api` with its `#[utoipa::path]`, whose
//! first argument is `RequireScope` with the scope it needs; a line in `api::routes`; then regenerate
//! `contracts/openapi.yaml`.

mod actor;
mod api;
mod api_keys;
mod callbacks;
mod client_address;
mod connections;
mod console;
mod docs;
mod extract;
mod http_callbacks;
mod limits;
mod location;
mod middleware;
mod problem;
mod redirect;
mod router;
mod state;
mod strict_json;
#[cfg(test)]
mod tests;
mod token_reads;
mod unknown;
mod verifiers;

use larkauth_config::Settings;
use larkauth_runtime::{Process, Routes, ServiceHandle};

pub use docs::problems_markdown;
pub use router::openapi;

use crate::{
    callbacks::{Callbacks, record_sent_answers},
    connections::ConnectionSupervisor,
    state::AppState,
};

/// Starts the gateway: long connections for all enabled applications, and the HTTP server.
///
/// # Errors
/// One line that names the setting or the part at fault, and the cure.
pub async fn start(settings: Settings) -> anyhow::Result<ServiceHandle> {
    let process = Process::start(&settings).await?;
    let routes = spawn_tasks(&process, &settings).await?;
    process.serve(routes)
}

/// Spawns the gateway's tasks in a process that may hold other services too, and gives the routes to serve.
///
/// # Errors
/// When the store does not answer.
pub async fn spawn_tasks(process: &Process, settings: &Settings) -> anyhow::Result<Routes> {
    let context = process.context.clone();
    let (callbacks, sent_answers) = Callbacks::new(context.clone());
    let supervisor = ConnectionSupervisor::new(
        context.clone(),
        &settings.websocket,
        settings.http.callback_allow_unsigned,
        process.health.clone(),
        callbacks.clone(),
    );
    let (health, stopping) = (process.health.clone(), process.stopping.clone());
    let state = AppState::new(context.clone(), &settings.http, callbacks, health, stopping);
    state.api_keys.warn().await?;

    let (relaying, stopping) = (context.clone(), process.stopping.clone());
    process.spawn("the event relay", async move {
        relaying.relay_events(stopping).await;
        Ok(())
    });
    let (following, stopping) = (context.clone(), process.stopping.clone());
    process.spawn("the feed of changes", async move {
        following.follow_changes(stopping).await;
        Ok(())
    });
    process.spawn("the record of sent answers", record_sent_answers(context, sent_answers));
    process.spawn("the long connections", supervisor.run(process.stopping.clone()));
    let routes = router::routes(&state, settings.http.public_addr.is_some());
    // The spans of each request have a reader then.
    let is_traced = larkauth_telemetry::spans_are_recorded();
    Ok(if is_traced { routes } else { routes.with_shortcut(router::shortcut(&state)) })
}
