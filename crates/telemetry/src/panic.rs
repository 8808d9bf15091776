//! Panic hook that logs one line with the location, without data.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
};

/// Maximum length of a logged panic text, in characters; longer texts would flood the log.
const MAX_TEXT: usize = 200;

/// Replaces the standard hook, which would print the formatted message with its data.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        location,
        thread = std::thread::current().name(),
        text = literal(info),
        backtrace,
        "a thread or task panicked"
    );
}

/// Returns the text when it is a literal of the source code. A formatted message may contain a secret and is not shown.
fn literal(info: &PanicHookInfo<'_>) -> Option<String> {
    info.payload().downcast_ref::<&'static str>().map(|text| text.chars().take(MAX_TEXT).collect())
}
