//! `larkauth horizon`: who loses access when, and why.

use std::{process::ExitCode, time::Duration};

use chrono::TimeDelta;
use larkauth_auth::Context;
use larkauth_models::{AppId, LossReason, OpenId, Timestamp};
use larkauth_storage::{HorizonFilter, UnreadableTokens};
use serde::Serialize;

use crate::{
    globals::{Globals, operator},
    output::{self, Format, time},
    registered::check_registered,
    report,
};

/// Why a person is listed whose token cannot be read.
const KEY_MISSING: &str = "encryption_key_missing";
/// People of one read of the database.
const PAGE: u32 = 500;

/// List the people who lose access soon, or have lost it, with the reason
///
/// The earliest comes first. The time is the end of the access unless something changes; a suspended person has none already.
/// Losses within the same time before now are listed too. A person of an application whose breaker is open is listed with the
/// end of the access token. People whose token cannot be read because an encryption key is missing follow, and are counted on
/// standard error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth horizon\n  larkauth horizon --within 7d --app-id cli_0123456789abcdef --json | jq '.counts'"
)]
pub(crate) struct Arguments {
    /// How far ahead, and how far back
    #[arg(long, default_value = "30d", value_name = "TIME", value_parser = humantime::parse_duration)]
    within: Duration,
    /// Of this application only
    #[arg(long, value_name = "APP_ID")]
    app_id: Option<AppId>,
    /// At most so many people
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// A person for output.
#[derive(Serialize)]
struct LossView {
    at: Timestamp,
    reason: &'static str,
    app_id: AppId,
    open_id: OpenId,
    /// There is no access any more.
    lost: bool,
}

/// The whole result for output.
#[derive(Serialize)]
struct HorizonView<'a> {
    people: &'a [LossView],
    counts: serde_json::Map<String, serde_json::Value>,
    unreadable: serde_json::Map<String, serde_json::Value>,
    more: bool,
}

pub(crate) async fn run(arguments: Arguments, globals: &Globals) -> anyhow::Result<ExitCode> {
    let format = globals.format();
    globals.connected(async |context| arguments.run(context, format).await).await?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    async fn run(&self, context: &Context, format: Format) -> anyhow::Result<()> {
        check_registered(context, self.app_id.as_slice()).await?;
        let now = context.now();
        let within = TimeDelta::from_std(self.within).unwrap_or(TimeDelta::MAX);
        let filter = HorizonFilter {
            app_id: self.app_id.clone(),
            from: now.checked_sub_signed(within).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH),
            until: now.checked_add_signed(within).unwrap_or(LATEST).min(LATEST),
        };
        let (mut people, mut after, mut unreadable) = (Vec::new(), None, None);
        let counts = loop {
            let left = self.limit - u32::try_from(people.len()).unwrap_or(self.limit);
            let page =
                context.horizon(&operator(), now, &filter, after.as_ref(), left.clamp(1, PAGE)).await?;
            unreadable.get_or_insert(page.unreadable);
            people.extend(page.losses.into_iter().map(|loss| LossView {
                lost: loss.at <= now || loss.reason == LossReason::Suspended,
                at: loss.at,
                reason: loss.reason.as_str(),
                app_id: loss.app_id,
                open_id: loss.open_id,
            }));
            after = page.next;
            if after.is_none() || people.len() >= self.limit as usize {
                break page.counts;
            }
        };
        let UnreadableTokens { people: closed, counts: closed_counts } = unreadable.unwrap_or_default();
        let all: u64 =
            counts.iter().map(|count| count.people).sum::<u64>() + closed_counts.values().sum::<u64>();
        people.extend(closed.into_iter().map(|token| LossView {
            lost: token.access_until.is_none_or(|until| until <= now),
            at: token.access_until.unwrap_or(now),
            reason: KEY_MISSING,
            app_id: token.app_id,
            open_id: token.open_id,
        }));
        people.truncate(self.limit as usize);
        let more = all > people.len() as u64;
        let closed_counts =
            closed_counts.into_iter().map(|(id, tokens)| (id.unwrap_or_else(|| "?".to_owned()), tokens));
        if format == Format::Json {
            let counts = counts.iter().map(|count| (count.reason.to_string(), count.people.into()));
            return output::json(&HorizonView {
                people: &people,
                counts: counts.collect(),
                unreadable: closed_counts.map(|(id, tokens)| (id, tokens.into())).collect(),
                more,
            });
        }
        format.list(&people, &["AT", "LOST", "REASON", "APP", "PERSON"], row)?;
        for count in &counts {
            report::note(&format!("{}: {}", count.reason, count.people));
        }
        for (key_id, tokens) in closed_counts {
            report::warn(&format!(
                "{tokens} tokens cannot be read: they need the encryption key {key_id}; put it back into ENCRYPTION_KEYS"
            ));
        }
        if more {
            report::note("There are more: give a larger --limit, or a shorter --within");
        }
        Ok(())
    }
}

/// The end of the year 9999, which every database can hold. Evaluated at compile time, where it cannot fail.
const LATEST: Timestamp = Timestamp::from_timestamp(253_402_300_799, 0).unwrap();

fn row(loss: &LossView) -> Vec<String> {
    vec![
        time(loss.at),
        if loss.lost { "yes" } else { "no" }.to_owned(),
        loss.reason.to_owned(),
        loss.app_id.to_string(),
        loss.open_id.to_string(),
    ]
}
