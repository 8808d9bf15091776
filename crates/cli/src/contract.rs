use std::process::ExitCode;

use anstream::print;
use anyhow::Context;

/// A document that is generated from the code and kept in the repository.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Document {
    /// contracts/asyncapi.yaml
    Asyncapi,
    /// contracts/openapi.yaml
    Openapi,
    /// docs/settings.md
    Settings,
    /// docs/troubleshooting/problems.md
    Problems,
}

pub(crate) fn run(document: Document) -> anyhow::Result<ExitCode> {
    let text = match document {
        Document::Asyncapi => larkauth_contracts::asyncapi::document()?,
        Document::Openapi => larkauth_gateway::openapi().to_yaml().context("the OpenAPI document")?,
        Document::Settings => larkauth_config::reference_markdown(),
        Document::Problems => larkauth_gateway::problems_markdown(),
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}
