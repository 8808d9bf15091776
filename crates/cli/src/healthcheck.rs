use std::{path::PathBuf, process::ExitCode};

use larkauth_config::{LoadOptions, Service, Settings};
use larkauth_runtime::{healthcheck, healthcheck_of};
use url::Url;

use crate::report;

/// Ask the running process on this machine whether it is ready: exit code 0 or 1
///
/// For the health check of a container. Asks /readyz at HTTP_ADDR, and waits three seconds at most.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  larkauth healthcheck")]
pub(crate) struct Arguments {
    /// Each of its parts must work, the long connection for example (/health)
    #[arg(long)]
    all: bool,
    /// Ask this address instead; any answer but 200 is a failure
    #[arg(long, value_name = "URL", conflicts_with = "all")]
    url: Option<Url>,
}

pub(crate) async fn run(arguments: Arguments, config_file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    match arguments.url {
        Some(url) => healthcheck_of(url.as_str()).await?,
        None => {
            let options = LoadOptions { config_file, service: Service::Standalone };
            healthcheck(Settings::load(&options)?.http.addr, arguments.all).await?;
        }
    }
    report::done("ready", "");
    Ok(ExitCode::SUCCESS)
}
