//! The simulated Lark of the demo.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use larkauth_lark_sim::{Sim, SimConfig, SimHandle};
use larkauth_models::Clock;

/// Interval of pings over the long connection. Short, so that a silent connection is noticed while a person watches.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Starts a simulated Lark whose application has the redirect URI of the gateway at `base`.
pub(crate) async fn start(base: &str, clock: Arc<dyn Clock>) -> anyhow::Result<SimHandle> {
    let mut config = SimConfig::demo().with_clock(clock);
    config.socket.ping_interval = PING_INTERVAL;
    for app in &mut config.apps {
        app.redirect_uris = vec![format!("{base}/oauth/callback")];
    }
    Ok(Sim::start(config).await?)
}

/// Returns the id of the simulator's only application.
pub(crate) fn app_id(sim: &Sim) -> anyhow::Result<String> {
    Ok(sim.apps().into_iter().next().context("the simulator has no application")?.app_id)
}
