//! Asking the person at the terminal. Without a terminal, answers are lines on standard input.

use std::{
    io::{BufRead, IsTerminal, Read, Write},
    path::Path,
};

use anstream::eprint;
use larkauth_models::{ExposeSecret, SecretString};

use crate::exit::CommandError;

/// Maximum length of a secret or answer, in bytes. Secrets of Lark are far shorter.
const MAX_LENGTH: u64 = 16 * 1024;

/// Returns whether a person at a terminal can be asked.
pub(crate) fn is_possible() -> bool {
    std::io::stdin().is_terminal()
}

/// Reads a secret from a file, or from standard input for `-`.
pub(crate) fn secret_file(path: &Path) -> anyhow::Result<SecretString> {
    if path == Path::new("-") {
        return Ok(SecretString::from(next_line("the secret")?));
    }
    let unusable = |error: std::io::Error| {
        CommandError::Usage(format!(
            "{}: {error}; give a readable text file that holds the secret",
            path.display()
        ))
    };
    let file = std::fs::File::open(path).map_err(unusable)?;
    let mut text = String::new();
    file.take(MAX_LENGTH).read_to_string(&mut text).map_err(unusable)?;
    filled(
        SecretString::from(text.trim_start_matches('\u{feff}').trim().to_owned()),
        &path.display().to_string(),
    )
}

/// Asks for a secret without echo.
pub(crate) fn secret(question: &str) -> anyhow::Result<SecretString> {
    if !is_possible() {
        return Ok(SecretString::from(next_line(question)?));
    }
    let typed = rpassword::prompt_password(format!("{question}: "))?;
    filled(SecretString::from(typed.trim().to_owned()), question)
}

/// Asks for a line.
pub(crate) fn line(question: &str) -> anyhow::Result<String> {
    if is_possible() {
        eprint!("{question}: ");
        std::io::stderr().flush()?;
    }
    next_line(question)
}

/// Asks without blocking the other tasks of this process.
pub(crate) async fn meanwhile<T: Send + 'static>(
    ask: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(ask).await?
}

/// Waits for Enter.
pub(crate) fn pause(text: &str) -> anyhow::Result<()> {
    eprint!("  {text} ");
    std::io::stderr().flush()?;
    std::io::stdin().lock().take(MAX_LENGTH).read_line(&mut String::new())?;
    Ok(())
}

/// Asks for a yes. Fails without a terminal, where `--yes` is required.
pub(crate) fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !is_possible() {
        return Err(
            CommandError::Usage(format!("{question} There is no terminal to ask at: add --yes")).into()
        );
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn next_line(what: &str) -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().take(MAX_LENGTH).read_line(&mut line)?;
    match line.trim_start_matches('\u{feff}').trim() {
        "" => Err(CommandError::Usage(format!("{}: nothing was given", what.trim())).into()),
        text => Ok(text.to_owned()),
    }
}

fn filled(secret: SecretString, what: &str) -> anyhow::Result<SecretString> {
    if secret.expose_secret().is_empty() {
        return Err(CommandError::Usage(format!("{what}: nothing was given")).into());
    }
    Ok(secret)
}
