use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use larkauth_lark_sim::{Sim, SimConfig, SimHandle};
use larkauth_models::{AppId, ExposeSecret};
use serde_json::json;

use crate::{exit::CommandError, report};

/// Run a simulated Lark platform on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  larkauth sim --addr 127.0.0.1:9099")]
pub(crate) struct Arguments {
    /// Where to listen; loopback only, since its control API has no authentication
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9099")]
    addr: SocketAddr,
    /// A redirect URI to register for the application; may be given more than once
    #[arg(long, value_name = "URI", default_value = "http://127.0.0.1:8080/oauth/callback")]
    redirect_uri: Vec<String>,
    /// The application's id (`cli_` and 16 to 32 letters or digits); random by default
    #[arg(long, value_name = "APP_ID")]
    app_id: Option<AppId>,
    /// The application's secret; random by default
    #[arg(long, value_name = "SECRET", env = "SIM_APP_SECRET", hide_env_values = true)]
    app_secret: Option<String>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if !arguments.addr.ip().is_loopback() {
        let message = format!(
            "--addr {}: must be an address of this machine only, like 127.0.0.1:9099",
            arguments.addr
        );
        return Err(CommandError::Usage(message).into());
    }
    let mut config = SimConfig { addr: arguments.addr, ..SimConfig::demo() };
    if let Some(app) = config.apps.first_mut() {
        app.redirect_uris = arguments.redirect_uri;
        if let Some(id) = arguments.app_id {
            app.app_id = id.to_string();
        }
        if let Some(secret) = arguments.app_secret.filter(|secret| !secret.is_empty()) {
            app.secret = secret.into();
        }
    }
    let sim = Sim::start(config).await.context("--addr")?;
    let apps: Vec<_> = sim
        .apps()
        .iter()
        .map(|app| json!({ "app_id": app.app_id, "app_secret": app.secret.expose_secret() }))
        .collect();
    let people: Vec<_> = sim
        .users()
        .iter()
        .map(|user| json!({ "open_id": user.open_id, "name": user.name, "en_name": user.en_name }))
        .collect();
    let facts = json!({
        "ready": true,
        "lark_base_url": sim.base_url(),
        "lark_accounts_url": sim.accounts_url(),
        "applications": apps,
        "people": people,
    });
    let signal = larkauth_runtime::shutdown_signal();
    report::result(&facts, || print_facts(&sim));
    signal.await;
    sim.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

fn print_facts(sim: &SimHandle) {
    report::done("a simulated Lark is running", "stop it with Ctrl-C");
    report::say("");
    report::say(&format!("LARK_BASE_URL={}", sim.base_url()));
    report::say(&format!("LARK_ACCOUNTS_URL={}", sim.accounts_url()));
    for app in sim.apps() {
        report::say(&format!("APP_ID={}", app.app_id));
        // A simulated secret, worth nothing outside this process, and the only way to use the simulator.
        report::say(&format!("APP_SECRET={}", app.secret.expose_secret()));
    }
    report::say("");
    for user in sim.users() {
        report::say(&format!("{}  {} / {}", user.open_id, user.name, user.en_name));
    }
}
