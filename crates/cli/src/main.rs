//! The `larkauth` command.
//!
//! What may live here: arguments, output, and the choice of the operation to call. What may not: the operations. To add
//! a command: a variant in [`Command`] with its help text, a module with a `run`, a line in [`dispatch`].
//!
//! Exit codes: see [`exit`] and docs/cli.md.

mod apps;
mod audit;
mod backup;
mod capacity;
mod card;
mod completions;
mod contract;
mod dead_letters;
mod demo;
mod doctor;
mod encryption_keys;
mod exit;
mod follow;
mod globals;
mod healthcheck;
mod horizon;
mod keys;
mod man;
mod migrate;
mod no_token;
mod output;
mod people;
mod prompt;
mod registered;
mod report;
mod session;
mod sim;
mod standalone;
mod token;
mod token_status;
mod walkthrough;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::globals::Globals;

/// Asks people in Feishu/Lark for consent, and hands their user_access_tokens to a company's bots and services.
#[derive(Debug, Parser)]
#[command(name = "larkauth", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Try(walkthrough::Arguments),
    Standalone(standalone::Arguments),
    #[command(subcommand)]
    Apps(apps::Apps),
    #[command(subcommand)]
    Keys(keys::Keys),
    #[command(subcommand)]
    Card(card::Card),
    #[command(subcommand)]
    Session(session::Session),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    People(people::People),
    Horizon(horizon::Arguments),
    Audit(audit::Arguments),
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    Doctor(doctor::Arguments),
    Healthcheck(healthcheck::Arguments),
    Capacity(capacity::Arguments),
    Migrate(migrate::Arguments),
    Backup(backup::Arguments),
    #[command(subcommand)]
    EncryptionKeys(encryption_keys::EncryptionKeys),
    Sim(sim::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    /// Print a generated document: the contracts, the list of settings, the problem codes
    #[command(hide = true, after_help = "Example:\n  larkauth contract openapi > contracts/openapi.yaml")]
    Contract {
        /// The document
        document: contract::Document,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    report::set_format(cli.globals.format());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report::failed(&error.into()),
    };
    let code = match runtime.block_on(dispatch(cli)) {
        Ok(code) => report::exit_code(code),
        Err(error) => report::failed(&error),
    };
    // An unanswered question does not delay the exit.
    runtime.shutdown_background();
    code
}

async fn dispatch(Cli { globals, command }: Cli) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(arguments) => demo::run(arguments, &globals).await,
        Command::Try(arguments) => walkthrough::run(arguments, &globals).await,
        Command::Standalone(arguments) => standalone::run(arguments, globals.config).await,
        Command::Apps(command) => apps::run(command, &globals).await,
        Command::Keys(command) => keys::run(command, &globals).await,
        Command::Card(command) => card::run(command, &globals).await,
        Command::Session(command) => session::run(command, &globals).await,
        Command::Token(command) => token::run(command, &globals).await,
        Command::People(command) => people::run(command, &globals).await,
        Command::Horizon(arguments) => horizon::run(arguments, &globals).await,
        Command::Audit(arguments) => audit::run(arguments, &globals).await,
        Command::DeadLetters(command) => dead_letters::run(command, &globals).await,
        Command::Capacity(arguments) => capacity::run(&arguments, globals.format()),
        Command::Doctor(arguments) => doctor::run(arguments, &globals).await,
        Command::Healthcheck(arguments) => healthcheck::run(arguments, globals.config).await,
        Command::Migrate(arguments) => migrate::run(arguments, &globals.settings()?).await,
        Command::Backup(arguments) => backup::run(arguments, &globals).await,
        Command::EncryptionKeys(command) => encryption_keys::run(command, &globals).await,
        Command::Sim(arguments) => sim::run(arguments).await,
        Command::Completions(arguments) => completions::run(&arguments, Cli::command()),
        Command::Man(arguments) => man::run(&arguments, Cli::command()),
        Command::Contract { document } => contract::run(document),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, error::ErrorKind};

    use super::Cli;

    #[test]
    fn help_of_every_command_holds_an_example() {
        explained(&["larkauth"], &Cli::command());
    }

    /// Checks what `--help` prints for this command and all below it.
    fn explained(path: &[&str], command: &Command) {
        let help = wide(Cli::command()).try_get_matches_from([path, &["--help"]].concat()).unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp, "{path:?}");
        let help = help.to_string();
        assert!(command.has_subcommands() || help.contains("Example"), "{path:?}: {help}");
        insta::with_settings!({ omit_expression => true }, {
            insta::assert_snapshot!(path.join("_"), help);
        });
        for below in command.get_subcommands() {
            explained(&[path, &[below.get_name()]].concat(), below);
        }
    }

    /// Returns the command with the terminal width of the snapshots.
    fn wide(command: Command) -> Command {
        command.term_width(100).mut_subcommands(wide)
    }
}
