//! The simulated Lark of the demo.

use std::{net::SocketAddr, sync::Arc, time::Duration};

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

/// What services that run elsewhere expect of Lark.
pub(crate) struct Known {
    /// Address to listen on.
    pub(crate) addr: SocketAddr,
    /// Address under which the services reach it.
    pub(crate) base_url: String,
    /// The application's id.
    pub(crate) app_id: String,
    /// The application's secret.
    pub(crate) secret: String,
    /// The application's redirect URI.
    pub(crate) redirect_uri: String,
    /// Lifetime of access tokens.
    pub(crate) access_token: Duration,
    /// Wall time.
    pub(crate) clock: Arc<dyn Clock>,
}

/// Starts the Lark of services that run elsewhere.
pub(crate) async fn start_for(known: Known) -> anyhow::Result<SimHandle> {
    let mut config = SimConfig::demo().with_clock(known.clock);
    config.addr = known.addr;
    config.allow_non_loopback = true;
    config.base_url = Some(known.base_url);
    config.lifetimes.access = known.access_token;
    config.socket.ping_interval = PING_INTERVAL;
    for app in &mut config.apps {
        app.app_id.clone_from(&known.app_id);
        app.secret = known.secret.clone().into();
        app.redirect_uris = vec![known.redirect_uri.clone()];
    }
    Ok(Sim::start(config).await?)
}

/// Returns the id of the simulator's only application.
pub(crate) fn app_id(sim: &Sim) -> anyhow::Result<String> {
    Ok(sim.apps().into_iter().next().context("the simulator has no application")?.app_id)
}
