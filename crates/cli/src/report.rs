//! What the command line says. Colours on a terminal only, and never with `NO_COLOR`.
//!
//! What goes to standard output is for people, or one JSON object for each line; [`set_format`] decides it once.

use std::{io::IsTerminal, process::ExitCode, sync::OnceLock};

use anstream::{eprint, eprintln, println};
use serde::Serialize;

use crate::{exit, output::Format};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

static FORMAT: OnceLock<Format> = OnceLock::new();

/// How everything on standard output is written from here on.
pub(crate) fn set_format(format: Format) {
    // Once, by `main`.
    let _ = FORMAT.set(format);
}

/// One line of the story.
#[derive(Serialize)]
struct Line<'a> {
    step: &'a str,
    outcome: &'static str,
    detail: &'a str,
}

impl Line<'_> {
    /// Writes it as JSON, or else these words.
    fn or(&self, words: impl FnOnce() -> String) {
        match FORMAT.get() {
            Some(Format::Json) if self.step.is_empty() => {}
            Some(Format::Json) => json_line(self),
            _ => println!("{}", words()),
        }
    }
}

fn json_line(value: &impl Serialize) {
    // Of plain texts and numbers only, which are always JSON.
    if let Ok(text) = serde_json::to_string(value) {
        println!("{text}");
    }
}

/// What a command is run for: as one JSON object, or else in these words.
pub(crate) fn result(value: &impl Serialize, words: impl FnOnce()) {
    match FORMAT.get() {
        Some(Format::Json) => json_line(value),
        _ => words(),
    }
}

/// A step that worked.
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

/// A line without a verdict.
pub(crate) fn say(text: &str) {
    Line { step: text.trim(), outcome: "note", detail: "" }.or(|| text.to_owned());
}

/// Something the person should know.
pub(crate) fn warn(text: &str) {
    eprintln!("{YELLOW}!{PLAIN} {text}");
}

/// Something beside the result, which is on standard output.
pub(crate) fn note(text: &str) {
    eprintln!("{DIM}{text}{PLAIN}");
}

/// A step that did not work, with what to do.
pub(crate) fn wrong(what: &str, detail: &str) {
    Line { step: what, outcome: "wrong", detail }.or(|| format!("{RED}✗{PLAIN} {}", line(what, detail)));
}

/// A step that worked, but probably not as meant.
pub(crate) fn doubtful(what: &str, detail: &str) {
    Line { step: what, outcome: "doubtful", detail }
        .or(|| format!("{YELLOW}!{PLAIN} {}", line(what, detail)));
}

/// The last line of a failed command. Who stops reading the output, as `head` does, has seen enough.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let unread = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(unread) {
        return ExitCode::SUCCESS;
    }
    eprintln!("{RED}✗{PLAIN} {error:#}");
    ExitCode::from(exit::code_of(error))
}

/// How far long work has come: one line that renews itself on a terminal, nothing elsewhere.
pub(crate) struct Progress {
    on_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { on_terminal: std::io::stderr().is_terminal() }
    }

    /// Shows the present state.
    pub(crate) fn show(&mut self, what: &str, done: u64, all: u64) {
        if self.on_terminal {
            let percent = (done * 100).checked_div(all).unwrap_or(100);
            eprint!("\r\x1b[K{DIM}{what}: {done} of {all} ({percent} %){PLAIN}");
        }
    }

    /// Shows what is waited for, and for how long already.
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

/// Enough of a secret to recognise it by.
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
