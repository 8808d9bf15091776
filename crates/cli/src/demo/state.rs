//! What every request to the page's server shares.

use std::sync::Arc;

use larkauth_lark_sim::Sim;
use larkauth_models::ShiftedClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{caller::Caller, document::Document, feed::Feed, stage::GatewayPages};

/// State of every request.
#[derive(Clone)]
pub(crate) struct DemoState {
    /// The simulated Lark.
    pub(crate) sim: Sim,
    /// Its application.
    pub(crate) app_id: String,
    /// The service that calls the gateway, with an API key.
    pub(crate) caller: Caller,
    /// Pages of the gateway for browsers.
    pub(crate) pages: GatewayPages,
    /// The clock of the simulated Lark, and of services that run here.
    pub(crate) clock: Arc<ShiftedClock>,
    /// The services run in this process.
    pub(crate) services_run_here: bool,
    /// Spans and events of the product.
    pub(crate) feed: Arc<Feed>,
    /// Client for the pages that the page frames; follows no redirect.
    pub(crate) browser: reqwest::Client,
    /// The document that the page shows.
    pub(crate) document: watch::Receiver<Document>,
    /// Cancelled when the command stops.
    pub(crate) stopping: CancellationToken,
}
