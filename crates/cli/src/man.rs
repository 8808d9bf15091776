use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;

/// Write a manual page for each command into a folder
#[derive(Debug, clap::Args)]
#[command(hide = true, after_help = "Example:\n  larkauth man ~/.local/share/man/man1")]
pub(crate) struct Arguments {
    /// The folder, which is created
    folder: PathBuf,
}

/// Writes the pages of `command` and of all below it that are not hidden.
pub(crate) fn run(arguments: &Arguments, command: clap::Command) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let unwritten = || format!("{} cannot be written", folder.display());
    fs::create_dir_all(folder).with_context(unwritten)?;
    clap_mangen::generate_to(command, folder).with_context(unwritten)?;
    Ok(ExitCode::SUCCESS)
}
