//! `larkauth demo`: the product against a simulated Lark, on a page in the browser or step by step in the terminal.
//!
//! `platform` is the simulated Lark, `stage` starts the services, `caller` calls them as any other service would,
//! `auto` plays the demo in the terminal.
//! `elsewhere` is the demo for services that it did not start.
//! The page: `server` serves it, `state` is what its requests share, `api` handles its buttons, `browser` passes on the
//! pages of the phone's browser,
//! `document` is what it shows, `feed` the traced spans and events, `breakage` the faults to choose from.

mod api;
mod auto;
mod breakage;
mod browser;
mod caller;
mod document;
mod elsewhere;
mod feed;
mod guard;
mod platform;
mod server;
mod stage;
mod state;

use std::{
    io::IsTerminal,
    net::{IpAddr, Ipv4Addr, TcpListener},
    process::ExitCode,
    sync::Arc,
};

use anyhow::ensure;
use larkauth_models::ShiftedClock;
use larkauth_net::Network;
use larkauth_telemetry::{LogFormat, TelemetryConfig};

use self::{
    elsewhere::Elsewhere,
    feed::{Feed, FeedLayer},
    server::Address,
    stage::Stage,
};
use crate::{globals::Globals, report};

/// Try it out against a simulated Lark: a chat to click in, and a look inside
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth demo\n  larkauth demo --port 9000 --no-open\n  larkauth demo --auto\n  larkauth demo --gateway http://127.0.0.1:8080"
)]
pub(crate) struct Arguments {
    /// Play without clicks, print each step, and end
    #[arg(long, conflicts_with_all = ["port", "no_open"])]
    auto: bool,
    /// The page's port; the next free one when it is taken, any free one for 0
    #[arg(long, value_name = "PORT", default_value_t = 8090)]
    port: u16,
    /// Do not open the page in the browser
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    elsewhere: Elsewhere,
}

pub(crate) async fn run(arguments: Arguments, globals: &Globals) -> anyhow::Result<ExitCode> {
    let feed = Arc::new(Feed::new());
    let logs = TelemetryConfig {
        service_name: "larkauth-demo".to_owned(),
        log_format: LogFormat::Pretty,
        filter: Some(std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned())),
        otlp_endpoint: None,
        export_logs: false,
        export_metrics: None,
        ansi: std::io::stderr().is_terminal(),
        network: Network::default(),
    };
    let telemetry = larkauth_telemetry::init_with(&logs, FeedLayer::new(feed.clone()))?;
    if arguments.elsewhere.is_wanted() {
        let settings = globals.settings()?;
        let played = Box::pin(arguments.elsewhere.run(&settings, feed, arguments.port)).await;
        telemetry.shutdown().await;
        return played;
    }
    let port = free_port()?;
    let base = format!("http://127.0.0.1:{port}");
    let clock = Arc::new(ShiftedClock::default());
    let sim = platform::start(&base, clock.clone()).await?;
    report::done("a simulated Lark is running", sim.base_url());
    let stage = Box::pin(Stage::build(&sim, &base, clock.clone())).await?;
    let played = async {
        if arguments.auto {
            return auto::play(&sim, &stage.caller(), &clock).await;
        }
        let address =
            Address { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: arguments.port, open: !arguments.no_open };
        server::run(&sim, stage.parts(), feed, clock.clone(), address).await
    };
    let played = Box::pin(played).await;
    stage.tear_down().await?;
    played?;
    if arguments.auto {
        let violations = sim.violations();
        ensure!(violations.is_empty(), "the simulated Lark recorded violations: {violations:?}");
        report::say("\nEverything except Lark was real. To click yourself: larkauth demo");
    }
    sim.shutdown().await;
    telemetry.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

/// Returns a port that is free now, for the gateway: the consent page must know it before the gateway listens.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
