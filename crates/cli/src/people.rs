//! `larkauth people`: what is stored about a person.

use std::process::ExitCode;

use clap::Subcommand;
use larkauth_auth::Context;
use larkauth_models::{AppId, OpenId};
use serde::Serialize;

use crate::{
    exit::CommandError,
    globals::{Globals, operator},
    output::{self, Format},
    prompt, report,
};

/// Erase what is stored about a person
#[derive(Debug, Subcommand)]
pub(crate) enum People {
    Erase(Erase),
}

/// Erase sessions, token and profile of a person, and the person's ids in the audit log
///
/// Cannot be undone. The audit log keeps its records with a pseudonym in place of the person's ids, and that an erasure was
/// done. Another application's data of the same person stays: erase it there too. Lark itself still lists the application
/// among the person's authorizations until the person removes it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  larkauth people erase cli_0123456789abcdef ou_0123456789abcdef")]
pub(crate) struct Erase {
    /// The application
    app_id: AppId,
    /// The person, as this application sees them
    open_id: OpenId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What was erased.
#[derive(Serialize)]
struct ErasedView<'a> {
    app_id: &'a AppId,
    sessions: u64,
    tokens: u64,
    profiles: u64,
    audit_records: u64,
    pseudonym: &'a str,
}

pub(crate) async fn run(command: People, globals: &Globals) -> anyhow::Result<ExitCode> {
    let People::Erase(arguments) = command;
    let format = globals.format();
    let question = format!(
        "Erase everything that is stored about {} in {}? This cannot be undone.",
        arguments.open_id, arguments.app_id
    );
    if !arguments.yes && !prompt::meanwhile(move || prompt::confirmed(&question)).await? {
        report::note("nothing was erased");
        return Ok(ExitCode::FAILURE);
    }
    globals.connected(async |context| arguments.run(context, format).await).await?;
    Ok(ExitCode::SUCCESS)
}

impl Erase {
    async fn run(&self, context: &Context, format: Format) -> anyhow::Result<()> {
        let erased = context.erase_person(&operator(), context.now(), &self.app_id, &self.open_id).await?;
        if erased.is_nothing() {
            return Err(CommandError::NotFound(format!(
                "nothing is stored about {} in {}; check both ids",
                self.open_id, self.app_id
            ))
            .into());
        }
        if format == Format::Json {
            return output::json(&ErasedView {
                app_id: &self.app_id,
                sessions: erased.rows.sessions,
                tokens: erased.rows.tokens,
                profiles: erased.rows.profiles,
                audit_records: erased.records,
                pseudonym: &erased.pseudonym,
            });
        }
        report::done(
            "the person is erased",
            &format!(
                "{} sessions, {} tokens, {} profiles; {} audit records name {} now",
                erased.rows.sessions,
                erased.rows.tokens,
                erased.rows.profiles,
                erased.records,
                erased.pseudonym
            ),
        );
        report::say("  Services that hold an access token can use it until it expires, at most two hours.");
        Ok(())
    }
}
