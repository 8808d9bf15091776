//! `/console/dead-letters`: messages that no handler could handle, oldest first.

use askama::Template;
use axum::response::Response;
use larkauth_contracts::message::{Message, UnrecognizedCallback};
use larkauth_messaging::DeadLetter;
use serde_json::Value;

use crate::{
    failure::Failure,
    format::{When, plain},
    shell::{Shell, page},
    target,
    visit::{Everything, Visit},
};

/// Most dead letters of the page. The command line lists more.
const PAGE: u32 = 100;
/// Most of a body that is shown, in characters.
const MAX_BODY: usize = 8000;

struct Row {
    id: String,
    /// Query of the pages that ask.
    query: String,
    r#type: String,
    queue: String,
    reason: String,
    attempt: u32,
    died: Option<When>,
    body: String,
    /// No handler of this version takes it.
    is_unrecognized: bool,
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    shell: Shell,
    rows: Vec<Row>,
    has_more: bool,
}

pub(crate) async fn show(visit: Visit<Everything>) -> Result<Response, Failure> {
    let mut letters = visit.context.dead_letters(&visit.actor, visit.now, PAGE + 1).await?;
    let has_more = letters.len() > PAGE as usize;
    letters.truncate(PAGE as usize);
    let rows = letters.iter().map(|letter| row(&visit, letter)).collect();
    Ok(page(&DeadLettersPage { shell: visit.shell(), rows, has_more }))
}

fn row(visit: &Visit<Everything>, letter: &DeadLetter) -> Row {
    let body: Option<Value> = serde_json::from_slice(&letter.body).ok();
    let is_unrecognized = letter.r#type == UnrecognizedCallback::TYPE;
    // No handler rejected such a message. The reason is in its body.
    let told = body.as_ref().filter(|_| is_unrecognized).and_then(|body| body["data"]["reason"].as_str());
    let reason = letter.reason.as_deref().or(told).map(plain).unwrap_or_default();
    let text = body.as_ref().and_then(|body| serde_json::to_string_pretty(body).ok());
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(&letter.body).into_owned());
    Row {
        query: target::query([("id", letter.id.as_str())]),
        id: letter.id.to_string(),
        r#type: plain(&letter.r#type),
        queue: letter.queue.as_deref().map(plain).unwrap_or_default(),
        reason,
        attempt: letter.attempt,
        died: When::maybe(visit.lang, visit.now, letter.died_at),
        body: lines(&text),
        is_unrecognized,
    }
}

/// Returns a body with its lines, and without what forges or hides.
fn lines(text: &str) -> String {
    let shown: String = text.chars().take(MAX_BODY).collect();
    shown.lines().map(|line| larkauth_models::text::one_line(line, MAX_BODY)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keeps_breaks_and_drops_what_hides() {
        assert_eq!(lines("{\n  \"a\": \"b\u{202e}c\"\n}"), "{\n  \"a\": \"bc\"\n}");
        assert_eq!(lines(&"x".repeat(9000)).len(), MAX_BODY);
    }
}
