//! The `larkauth` command.
//!
//! What may live here: arguments, output, and which verb of which crate is called. What may not: the verbs. To add a
//! command: a variant in [`Command`] with its help text, a module with a `run`, a line in [`dispatch`].
//!
//! Exit codes: 0 done, 1 failed, 2 wrong arguments or settings.

mod contract;
mod demo;
mod migrate;
mod report;
mod sim;
mod standalone;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use larkauth_config::{ConfigError, LoadOptions, Service, Settings};

/// Keeps Feishu/Lark user_access_tokens alive for a company's bots and services.
#[derive(Debug, Parser)]
#[command(name = "larkauth", version, about, arg_required_else_help = true)]
struct Cli {
    /// A TOML file with settings; the environment wins over it (see docs/settings.md)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play one whole authorization against a simulated Lark, in this terminal
    Demo(demo::Arguments),
    /// Run a simulated Lark platform on this machine
    Sim(sim::Arguments),
    Standalone(standalone::Arguments),
    Migrate(migrate::Arguments),
    /// Print a generated document: the contracts and the list of settings
    #[command(hide = true)]
    Contract {
        /// Which one
        document: contract::Document,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report::failed(&error.into()),
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(code) => code,
        Err(error) => report::failed(&error),
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Sim(arguments) => sim::run(arguments).await,
        Command::Standalone(arguments) => standalone::run(arguments, cli.config).await,
        Command::Migrate(arguments) => migrate::run(arguments, &load(cli.config, Service::Command)?).await,
        Command::Contract { document } => contract::run(document),
    }
}

/// The settings of this command.
fn load(config_file: Option<PathBuf>, service: Service) -> Result<Settings, ConfigError> {
    let settings = Settings::load(&LoadOptions { config_file, service })?;
    for warning in &settings.warnings {
        report::warn(warning);
    }
    Ok(settings)
}
