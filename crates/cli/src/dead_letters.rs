//! `larkauth dead-letters`: messages that wait for an operator.

use std::process::ExitCode;

use clap::Subcommand;
use larkauth_auth::{AuthError, Context};
use larkauth_contracts::message::{Message, UnrecognizedCallback};
use larkauth_messaging::{BusError, DeadLetter};
use larkauth_models::{EventId, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::{
    exit::CommandError,
    globals::{Globals, operator},
    output::{self, Format, one_line, or_dash, time},
    prompt, report,
};

/// Maximum number of dead letters that one read returns.
const MAX_DEAD_LETTERS: u32 = 10_000;
/// Maximum length of a reason in a list. `show` prints all of it.
const MAX_REASON_LENGTH: usize = 60;

/// Look at messages that could not be handled, and put them back or drop them
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List the dead letters, oldest first
    #[command(after_help = "Example:\n  larkauth dead-letters list --limit 50")]
    List {
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DEAD_LETTERS)))]
        limit: u32,
    },
    /// Show one dead letter with its body; sealed values stay sealed
    #[command(
        after_help = "Example:\n  larkauth dead-letters show invite:0198c5a0-0000-7000-8000-000000000000"
    )]
    Show {
        /// Its id, as `larkauth dead-letters list` shows it
        id: EventId,
    },
    /// Put dead letters back, to be handled again
    #[command(
        after_help = "Examples:\n  larkauth dead-letters requeue ID\n  larkauth dead-letters requeue --all --yes"
    )]
    Requeue(Which),
    /// Drop dead letters for good
    #[command(
        after_help = "Examples:\n  larkauth dead-letters drop ID\n  larkauth dead-letters drop --all --yes"
    )]
    Drop(Which),
}

/// Advice about a callback without a handler.
const NO_HANDLER: &str = "This version has no handler for this callback, so requeueing it cannot succeed; drop it, or \
                               keep it for a version that does.";

/// Which dead letters.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct Which {
    /// Their ids, as `larkauth dead-letters list` shows them
    #[arg(value_name = "ID", group = "which")]
    ids: Vec<EventId>,
    /// All that there are now
    #[arg(long, group = "which")]
    all: bool,
    /// Do not ask whether --all is meant
    #[arg(long, requires = "all")]
    yes: bool,
}

/// What to do with the dead letters.
#[derive(Clone, Copy)]
enum Action {
    Requeue,
    Drop,
}

impl Action {
    const fn question(self) -> &'static str {
        match self {
            Self::Requeue => "Put all back?",
            Self::Drop => "Drop all for good?",
        }
    }
    const fn done(self) -> &'static str {
        match self {
            Self::Requeue => "put back",
            Self::Drop => "dropped",
        }
    }
}

#[derive(Serialize)]
struct LetterView {
    id: EventId,
    r#type: String,
    routing_key: String,
    queue: Option<String>,
    reason: Option<String>,
    attempt: u32,
    died_at: Option<Timestamp>,
    body: Value,
}

impl From<DeadLetter> for LetterView {
    fn from(letter: DeadLetter) -> Self {
        let body = serde_json::from_slice(&letter.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&letter.body).into_owned()));
        // No handler rejected this message. The reason is in its body.
        let reason = letter.reason.or_else(|| match letter.r#type.as_str() {
            UnrecognizedCallback::TYPE => body["data"]["reason"].as_str().map(str::to_owned),
            _ => None,
        });
        Self {
            id: letter.id,
            r#type: letter.r#type,
            routing_key: letter.routing_key,
            queue: letter.queue,
            reason,
            attempt: letter.attempt,
            died_at: letter.died_at,
            body,
        }
    }
}

impl LetterView {
    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            one_line(&self.r#type, MAX_REASON_LENGTH),
            or_dash(self.queue.as_ref()),
            self.attempt.to_string(),
            or_dash(self.died_at.map(time)),
            one_line(self.reason.as_deref().unwrap_or("-"), MAX_REASON_LENGTH),
        ]
    }
}

pub(crate) async fn run(command: DeadLetters, globals: &Globals) -> anyhow::Result<ExitCode> {
    let format = globals.format();
    globals
        .connected(async |context| match command {
            DeadLetters::List { limit } => list(context, limit, format).await,
            DeadLetters::Show { id } => show(context, &id, format).await,
            DeadLetters::Requeue(which) => settle(context, &which, Action::Requeue, format).await,
            DeadLetters::Drop(which) => settle(context, &which, Action::Drop, format).await,
        })
        .await?;
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context, limit: u32, format: Format) -> anyhow::Result<()> {
    // One more than requested shows whether there are others.
    let mut letters = context.dead_letters(&operator(), context.now(), limit + 1).await?;
    let has_more = letters.len() > limit as usize;
    letters.truncate(limit as usize);
    let letters: Vec<LetterView> = letters.into_iter().map(LetterView::from).collect();
    format.list(&letters, &["ID", "TYPE", "QUEUE", "ATTEMPTS", "DIED", "REASON"], LetterView::row)?;
    if has_more {
        report::note("There are more: raise --limit to see them.");
    }
    Ok(())
}

async fn show(context: &Context, id: &EventId, format: Format) -> anyhow::Result<()> {
    let letters = context.dead_letters(&operator(), context.now(), MAX_DEAD_LETTERS).await?;
    let letter = letters.into_iter().find(|letter| letter.id == *id).ok_or_else(|| missing(id))?;
    let letter = LetterView::from(letter);
    let fields = [
        ("id", letter.id.to_string()),
        ("type", one_line(&letter.r#type, 200)),
        ("routing_key", one_line(&letter.routing_key, 200)),
        ("queue", or_dash(letter.queue.as_ref())),
        ("attempts", letter.attempt.to_string()),
        ("died", or_dash(letter.died_at.map(time))),
        ("reason", one_line(letter.reason.as_deref().unwrap_or("-"), 1000)),
    ];
    format.one(&letter, &fields)?;
    if format == Format::Text {
        output::text_out(&format!("\n{}\n", serde_json::to_string_pretty(&letter.body)?))?;
        if letter.r#type == UnrecognizedCallback::TYPE {
            report::note(NO_HANDLER);
        }
    }
    Ok(())
}

async fn settle(context: &Context, which: &Which, action: Action, format: Format) -> anyhow::Result<()> {
    let ids = if which.all {
        let letters = context.dead_letters(&operator(), context.now(), MAX_DEAD_LETTERS).await?;
        let ids: Vec<EventId> = letters.into_iter().map(|letter| letter.id).collect();
        if ids.is_empty() {
            return report_settled(&[], action, format);
        }
        let question = format!("There are {} dead letters. {}", ids.len(), action.question());
        if !which.yes && !prompt::confirmed(&question)? {
            report::note("Nothing was changed.");
            return Ok(());
        }
        ids
    } else {
        which.ids.clone()
    };
    let mut progress = report::Progress::new();
    let mut settled = Vec::new();
    let mut failure = None;
    for (index, id) in ids.iter().enumerate() {
        progress.show(action.done(), index as u64, ids.len() as u64);
        let there = match action {
            Action::Requeue => context.requeue_dead_letter(&operator(), context.now(), id).await,
            Action::Drop => context.drop_dead_letter(&operator(), context.now(), id).await,
        };
        let failed = match there {
            Ok(true) => {
                settled.push(id);
                continue;
            }
            // With --all, a dead letter that another process took is no failure.
            Ok(false) if which.all => continue,
            Ok(false) => missing(id).into(),
            Err(AuthError::Bus(error)) if is_unrecognized(&error) => {
                anyhow::Error::new(error).context(format!("dead letter {id}: {NO_HANDLER}"))
            }
            Err(AuthError::Bus(error)) => anyhow::Error::new(error).context(format!("dead letter {id}")),
            Err(error) => return Err(error.into()),
        };
        // A dead letter without a queue does not prevent the others. A bus that is down does.
        let goes_on =
            failed.is::<CommandError>() || matches!(failed.downcast_ref(), Some(BusError::Refused { .. }));
        failure.get_or_insert(failed);
        if !goes_on {
            break;
        }
    }
    progress.finish();
    report_settled(&settled, action, format)?;
    failure.map_or(Ok(()), Err)
}

fn report_settled(settled: &[&EventId], action: Action, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(&serde_json::json!({ action.done().replace(' ', "_"): settled })),
        Format::Text if settled.is_empty() => {
            report::say("no dead letter was changed");
            Ok(())
        }
        Format::Text => {
            let count = settled.len();
            report::done(
                &format!("{count} {}", action.done()),
                if count == 1 { "dead letter" } else { "dead letters" },
            );
            Ok(())
        }
    }
}

/// Returns whether the bus refused a requeued callback without a handler.
fn is_unrecognized(refused: &BusError) -> bool {
    matches!(refused, BusError::Refused { routing_key, .. }
        if UnrecognizedCallback::ROUTING_KEYS.contains(&routing_key.as_str()))
}

fn missing(id: &EventId) -> CommandError {
    CommandError::NotFound(format!(
        "there is no dead letter {id}; `larkauth dead-letters list` shows all of them"
    ))
}
