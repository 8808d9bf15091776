//! `larkauth gateway`, `larkauth auth-worker`, `larkauth token-refresher`: one service, as the program of its name.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use larkauth_config as config;

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Run the gateway: takes what Lark pushes, brings browsers back, and serves the REST API
    ///
    /// As the program larkauth-gateway. Needs DATABASE_URL, AMQP_URL and ENCRYPTION_KEYS; all settings: docs/settings.md.
    #[command(after_help = "Example:\n  larkauth gateway --config gateway.toml")]
    Gateway,
    /// Run an auth-worker: sends cards, exchanges codes, stores tokens, and brings cards to their final face
    ///
    /// As the program larkauth-auth-worker. Needs DATABASE_URL, AMQP_URL and ENCRYPTION_KEYS; all settings: docs/settings.md.
    #[command(after_help = "Example:\n  larkauth auth-worker --config worker.toml")]
    AuthWorker,
    /// Run a token-refresher: keeps tokens alive, and runs the scheduled jobs
    ///
    /// As the program larkauth-token-refresher. Needs DATABASE_URL, AMQP_URL and ENCRYPTION_KEYS; all settings:
    /// docs/settings.md.
    #[command(after_help = "Example:\n  larkauth token-refresher --config refresher.toml")]
    TokenRefresher,
}

pub(crate) async fn run(service: &Service, config_file: Option<PathBuf>) -> ExitCode {
    match service {
        Service::Gateway => {
            larkauth_runtime::run_service(config::Service::Gateway, config_file, larkauth_gateway::start)
                .await
        }
        Service::AuthWorker => {
            let start = larkauth_auth_worker::start;
            larkauth_runtime::run_service(config::Service::AuthWorker, config_file, start).await
        }
        Service::TokenRefresher => {
            let start = larkauth_token_refresher::start;
            larkauth_runtime::run_service(config::Service::TokenRefresher, config_file, start).await
        }
    }
}
