//! A panic becomes one log line that says where, and not with which data.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
};

/// Longest part of a panic's literal text that is logged, in characters.
const MAX_TEXT: usize = 200;

/// Replaces the standard hook, which would print the message with all that was formatted into it.
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

/// The text when it is a literal of the source code. A formatted message may hold anything and is not shown.
fn literal(info: &PanicHookInfo<'_>) -> Option<String> {
    info.payload().downcast_ref::<&'static str>().map(|text| text.chars().take(MAX_TEXT).collect())
}
