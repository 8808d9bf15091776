//! The gateway: everything that comes in from outside. Long connections and HTTP callbacks of Lark, browsers back from
//! the consent page, the REST API with its documentation.
//!
//! What may live here: edges. What may not: a decision about authorization (those are operations of `larkauth-auth`), SQL,
//! AMQP.
//!
//! By module: `connections` keeps one long connection per application and `callbacks` is its HTTP twin; both hand what
//! comes to `intake`, which answers and follows up. `redirect` shows a person how it went. `api` holds the REST API,
//! `problem` every error answer, `edge` what all requests pass through, `docs` the pages about all this.
//!
//! To add an endpoint: its bodies in `larkauth_contracts::rest`; a handler in `api` with its `#[utoipa::path]`, whose
//! first argument is `RequireScope` with the scope it needs; a line in `api::routes`; then regenerate
//! `contracts/openapi.yaml`.

mod api;
mod callbacks;
mod connections;
mod docs;
mod edge;
mod gateway;
mod intake;
mod problem;
mod redirect;
#[cfg(test)]
mod tests;

use axum::Router;
use larkauth_config::Settings;
use larkauth_runtime::{Process, Running};

pub use docs::openapi;

use crate::{connections::Connections, gateway::Gateway};

/// Starts the gateway: long connections for all enabled applications, and the HTTP server.
///
/// # Errors
/// One line that names the setting or the part at fault, and the cure.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    let process = Process::start(&settings).await?;
    let routes = work(&process, &settings).await?;
    process.serve(settings.http.addr, routes).await
}

/// Spawns the gateway's tasks in a process that may hold other services too, and gives the routes to serve.
///
/// # Errors
/// When the store does not answer.
pub async fn work(process: &Process, settings: &Settings) -> anyhow::Result<Router> {
    let context = process.context.clone();
    let (intake, deliveries) = intake::Intake::new(context.clone());
    let connections =
        Connections::new(context.clone(), &settings.websocket, process.health.clone(), intake.clone());
    let gateway =
        Gateway::new(context.clone(), &settings.http, intake, connections.states(), process.stopping.clone());
    gateway.api_keys.warn_if_none().await?;

    process.spawn("the follow-up of answers", intake::follow_up(context, deliveries));
    process.spawn("the long connections", connections.keep(process.stopping.clone()));
    Ok(edge::routes(gateway))
}
