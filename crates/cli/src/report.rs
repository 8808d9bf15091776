//! Messages of the command line. Colours appear on a terminal only, and never with `NO_COLOR`.
//!
//! Standard output is text for people, or one JSON object on each line. [`set_format`] decides once.

use std::{
    io::{ErrorKind, IsTerminal, Write},
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use anstream::{eprint, eprintln};
use serde::Serialize;

use crate::{exit, output::Format};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

static FORMAT: OnceLock<Format> = OnceLock::new();

/// Sets the format of standard output.
pub(crate) fn set_format(format: Format) {
    // Once, by `main`.
    let _ = FORMAT.set(format);
}

/// One reported step.
#[derive(Serialize)]
struct Line<'a> {
    step: &'a str,
    outcome: &'static str,
    detail: &'a str,
}

impl Line<'_> {
    /// Writes the step as JSON, or else as text.
    fn or(&self, text: impl FnOnce() -> String) {
        match FORMAT.get() {
            Some(Format::Json) if self.step.is_empty() => {}
            Some(Format::Json) => json_line(self),
            _ => write_line(&text()),
        }
    }
}

fn json_line(value: &impl Serialize) {
    // Texts and numbers always serialize.
    if let Ok(text) = serde_json::to_string(value) {
        write_line(&text);
    }
}

/// Standard output has refused a line.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output. Work goes on without it: a service serves on while the disk of its log is full.
fn write_line(text: &str) {
    let mut out = anstream::stdout();
    let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) else { return };
    // A reader that closed the output early, as `head` does, is no failure.
    if error.kind() != ErrorKind::BrokenPipe && !UNWRITTEN.swap(true, Ordering::Relaxed) {
        eprintln!("{RED}✗{PLAIN} standard output cannot be written: {error}");
    }
}

/// Returns the exit code of a command: that of its result, or a failure when a line of it could not be written.
pub(crate) fn exit_code(result: ExitCode) -> ExitCode {
    if UNWRITTEN.load(Ordering::Relaxed) && result == ExitCode::SUCCESS { ExitCode::FAILURE } else { result }
}

/// Reports the result of a command as one JSON object, or else by `text`.
pub(crate) fn result(value: &impl Serialize, text: impl FnOnce()) {
    match FORMAT.get() {
        Some(Format::Json) => json_line(value),
        _ => text(),
    }
}

/// Reports a step that succeeded.
pub(crate) fn done(what: &str, detail: &str) {
    Line { step: what, outcome: "done", detail }
        .or(|| format!("{GREEN}✓{PLAIN} {}", line(what, &dimmed(detail))));
}

fn dimmed(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!("{DIM}{detail}{PLAIN}") }
}

fn line(what: &str, detail: &str) -> String {
    if detail.is_empty() { what.to_owned() } else { format!("{what}  {detail}") }
}

/// Reports a line without an outcome.
pub(crate) fn say(text: &str) {
    Line { step: text.trim(), outcome: "note", detail: "" }.or(|| text.to_owned());
}

/// Warns on standard error.
pub(crate) fn warn(text: &str) {
    eprintln!("{YELLOW}!{PLAIN} {text}");
}

/// Writes a remark to standard error, beside the result on standard output.
pub(crate) fn note(text: &str) {
    eprintln!("{DIM}{text}{PLAIN}");
}

/// Reports a step that failed, with what to do.
pub(crate) fn wrong(what: &str, detail: &str) {
    Line { step: what, outcome: "wrong", detail }.or(|| format!("{RED}✗{PLAIN} {}", line(what, detail)));
}

/// Reports a step that succeeded, but probably not as intended.
pub(crate) fn doubtful(what: &str, detail: &str) {
    Line { step: what, outcome: "doubtful", detail }
        .or(|| format!("{YELLOW}!{PLAIN} {}", line(what, detail)));
}

/// Reports the failure of a command. A reader that closed the output early, as `head` does, is no failure.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let unread = |e: &std::io::Error| e.kind() == ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(unread) {
        return ExitCode::SUCCESS;
    }
    eprintln!("{RED}✗{PLAIN} {error:#}");
    ExitCode::from(exit::code_of(error))
}

/// Progress of long work: one line that is redrawn on a terminal, nothing elsewhere.
pub(crate) struct Progress {
    on_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { on_terminal: std::io::stderr().is_terminal() }
    }

    /// Shows the current count.
    pub(crate) fn show(&mut self, what: &str, done: u64, all: u64) {
        if self.on_terminal {
            let percent = (done * 100).checked_div(all).unwrap_or(100);
            eprint!("\r\x1b[K{DIM}{what}: {done} of {all} ({percent} %){PLAIN}");
        }
    }

    /// Shows the awaited event and the time waited so far.
    pub(crate) fn wait(&mut self, what: &str, waited: std::time::Duration) {
        const TURNS: [char; 4] = ['|', '/', '-', '\\'];
        if self.on_terminal {
            let turn = TURNS[(waited.as_millis() / 250 % 4) as usize];
            eprint!("\r\x1b[K{DIM}{turn} {what} ({} s){PLAIN}", waited.as_secs());
        }
    }

    /// Clears the line.
    pub(crate) fn finish(&mut self) {
        if self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// Returns enough of a secret to recognise it by.
pub(crate) fn masked(secret: &str) -> String {
    let head: String = secret.chars().take(6).collect();
    format!("{head}… ({} characters)", secret.chars().count())
}

#[cfg(test)]
mod tests {
    #[test]
    fn masked_secret_shows_its_start_only() {
        let token = format!("u-ab{}", "x".repeat(1000));
        assert_eq!(super::masked(&token), "u-abxx… (1004 characters)");
    }
}
