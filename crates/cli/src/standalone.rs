use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use larkauth_config::{LoadOptions, Service, Settings};
use larkauth_models::Clock;
use larkauth_runtime::{
    DataDir, DataDirLock, Process, ServiceHandle, database_clock, shutdown_signal, until_stopped,
};
use serde_json::json;

use crate::{globals::operator, report};

/// Run gateway, auth-worker and token-refresher in one process, with nothing else installed
///
/// Everything is kept in one folder: an SQLite database, which is also the message bus, and the encryption keys, which
/// are made on the first start. Moving up is only DATABASE_URL and AMQP_URL; see `larkauth migrate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  larkauth standalone --data-dir /var/lib/larkauth --http-addr 127.0.0.1:8080"
)]
pub(crate) struct Arguments {
    /// Where to keep everything; instead of DATA_DIR
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Where to listen; instead of HTTP_ADDR
    #[arg(long, value_name = "ADDRESS")]
    http_addr: Option<SocketAddr>,
    /// Where to listen for browsers and Lark, apart from the rest; instead of PUBLIC_HTTP_ADDR
    #[arg(long, value_name = "ADDRESS")]
    public_http_addr: Option<SocketAddr>,
}

pub(crate) async fn run(arguments: Arguments, config_file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let flags = [
        ("DATA_DIR", arguments.data_dir.map(|path| path.display().to_string())),
        ("HTTP_ADDR", arguments.http_addr.map(|addr| addr.to_string())),
        ("PUBLIC_HTTP_ADDR", arguments.public_http_addr.map(|addr| addr.to_string())),
    ];
    let mut environment = Settings::environment()?;
    for (name, value) in flags {
        if let Some(value) = value {
            environment.retain(|(known, _)| known != name);
            environment.push((name.to_owned(), value));
        }
    }
    let options = LoadOptions { config_file, service: Service::Standalone };
    let mut settings = Settings::from_pairs(&options, environment)?;
    settings.telemetry.ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let guard = larkauth_telemetry::init(&settings.telemetry)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let result = async {
        let standalone = start(&settings, database_clock()).await?;
        let address = format!("http://{}", standalone.running.addr);
        let public = standalone.running.public_addr.map(|addr| format!("http://{addr}"));
        let result = match &public {
            Some(public) => json!({ "ready": true, "address": address, "public_address": public }),
            None => json!({ "ready": true, "address": address }),
        };
        let stop = shutdown_signal();
        report::result(&result, || {
            report::done("larkauth is running", &address);
            if let Some(public) = &public {
                report::done("browsers and Lark are served", public);
            }
        });
        let context = &standalone.running.context;
        if context.applications(&operator(), context.now()).await?.is_empty() {
            report::say("  No application yet: set APP_ID and APP_SECRET, or run `larkauth apps add`.");
        }
        until_stopped(standalone.running, stop).await
    }
    .await;
    guard.shutdown().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// The three running services in this process.
pub(crate) struct Standalone {
    /// Handle to stop and await the services.
    pub(crate) running: ServiceHandle,
    _folder: DataDirLock,
}

/// Starts the services on the data folder of the settings. Fails when another process uses the folder.
pub(crate) async fn start(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Standalone> {
    let folder = DataDir::new(&settings.data_dir).lock()?;
    let process = Process::start_at(settings, clock).await?;
    larkauth_auth_worker::spawn_tasks(&process, settings);
    larkauth_token_refresher::spawn_tasks(&process);
    let routes = larkauth_gateway::spawn_tasks(&process, settings).await?;
    let running = process.serve(routes)?;
    Ok(Standalone { running, _folder: folder })
}
