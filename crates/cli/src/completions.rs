use std::process::ExitCode;

use clap_complete::Shell;

use crate::output;

/// Print a script that completes this command in a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth completions bash > ~/.local/share/bash-completion/completions/larkauth\n  larkauth completions zsh > \"${fpath[1]}/_larkauth\"\n  larkauth completions fish > ~/.config/fish/completions/larkauth.fish"
)]
pub(crate) struct Arguments {
    /// The shell
    shell: Supported,
}

/// The shells that a script is made for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script that completes `command`.
pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let shell = match arguments.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "larkauth", &mut script);
    output::text_out(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
