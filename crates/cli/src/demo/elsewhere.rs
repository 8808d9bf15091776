//! The demo for services that run elsewhere, for example in containers: it is their Lark and the page, and starts nothing
//! else.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use larkauth_config::Settings;
use larkauth_models::{Clock, ExposeSecret, ShiftedClock};
use url::Url;

use super::{
    caller::{ByHand, Caller},
    feed::Feed,
    platform::{self, Known},
    server::{self, Address},
    stage::{DemoParts, GatewayPages, ServiceHealth},
};
use crate::{exit::CommandError, report};

/// How the demo and services that run elsewhere reach each other.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "For services that run elsewhere, with their settings")]
pub(crate) struct Elsewhere {
    /// Address of their REST API; the demo starts no services then, and is the Lark at LARK_BASE_URL with the application
    /// of APP_ID and APP_SECRET; it reads API_KEY
    #[arg(long, value_name = "URL", conflicts_with = "auto")]
    gateway: Option<Url>,
    /// Address under which the demo reaches what browsers reach at OAUTH_REDIRECT_URI; that of --gateway by default
    #[arg(long, value_name = "URL", requires = "gateway")]
    public_gateway: Option<Url>,
    /// Address to listen on, for the page and for Lark, whose control API has no authentication
    #[arg(long, value_name = "IP", requires = "gateway", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// Lifetime of access tokens
    #[arg(long, value_name = "SECONDS", requires = "gateway", default_value_t = 7200,
          value_parser = clap::value_parser!(u64).range(30..=7200))]
    access_token_seconds: u64,
}

impl Elsewhere {
    /// Returns whether the services run elsewhere.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.gateway.is_some()
    }

    /// Runs Lark and the page until the command is stopped.
    pub(crate) async fn run(
        self,
        settings: &Settings,
        feed: Arc<Feed>,
        port: u16,
    ) -> anyhow::Result<ExitCode> {
        let missing = |name: &str| {
            CommandError::Usage(format!("{name} is not set: --gateway needs the same {name} as the services"))
        };
        let gateway = base(&self.gateway.context("--gateway")?);
        let application = settings.application.as_ref().ok_or_else(|| missing("APP_ID"))?;
        let key = settings.http.api_key.clone().ok_or_else(|| missing("API_KEY"))?;
        let lark = settings.lark.hosts(settings.lark.brand).base_url.clone();
        let lark_port = lark.port().ok_or_else(|| {
            CommandError::Usage(format!(
                "LARK_BASE_URL {lark}: must have a port, on which the simulated Lark listens"
            ))
        })?;
        let clock = Arc::new(ShiftedClock::default());
        let sim = platform::start_for(Known {
            addr: SocketAddr::new(self.listen, lark_port),
            base_url: base(&lark),
            app_id: application.app_id.to_string(),
            secret: application.app_secret.expose_secret().to_owned(),
            redirect_uri: application.redirect_uri.to_string(),
            access_token: Duration::from_secs(self.access_token_seconds),
            clock: clock.clone(),
        })
        .await?;
        report::done("a simulated Lark is running", sim.base_url());
        let by_hand = ByHand { base: gateway.clone(), key: "$API_KEY".to_owned() };
        let caller = Caller::new(&gateway, key, by_hand)?;
        let parts = DemoParts {
            health: ServiceHealth::Elsewhere { caller: caller.clone(), since: clock.now() },
            pages: GatewayPages {
                named: application.redirect_uri.origin().ascii_serialization(),
                reached: self.public_gateway.as_ref().map_or(gateway, base),
            },
            caller,
            services_run_here: false,
        };
        let address = Address { ip: self.listen, port, open: false };
        let served = Box::pin(server::run(&sim, parts, feed, clock, address)).await;
        sim.shutdown().await;
        served.map(|()| ExitCode::SUCCESS)
    }
}

/// Returns the address without a slash at the end.
fn base(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}
