//! `larkauth audit`: who did what.

use std::{process::ExitCode, str::FromStr};

use chrono::TimeDelta;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use larkauth_auth::{Context, audit_view};
use larkauth_contracts::rest::AuditRecordView;
use larkauth_models::{AppId, AuditAction, Timestamp};
use larkauth_storage::{AuditCursor, AuditFilter};

use crate::{
    globals::{Globals, operator},
    output::{Format, or_dash, time},
    registered::check_registered,
    report,
};

/// Records of one read of the database.
const PAGE: u32 = 500;

/// List audit records, newest first
///
/// Records of changes are there with the change, records of reads and refusals about a second later. Times are UTC. See
/// docs/operations/audit.md.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  larkauth audit --since 24h --action token.serve\n  larkauth audit --person ou_0123456789abcdef --json | jq -r '.[].actor_name'\n  larkauth audit --actor root --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z"
)]
pub(crate) struct Arguments {
    /// About this application only
    #[arg(long, value_name = "APP_ID")]
    app: Option<AppId>,
    /// About this person only: an open id, a user id, or the pseudonym of an erased person
    #[arg(long, value_name = "ID")]
    person: Option<String>,
    /// By this actor only: id of an API key, account of an operator, name of a service, or open id
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Of this action only
    #[arg(long, hide_possible_values = true, value_parser = action())]
    action: Option<AuditAction>,
    /// From this time on: RFC 3339, or a time ago like 24h
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// Before this time: RFC 3339, or a time ago like 24h
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

fn action() -> impl TypedValueParser<Value = AuditAction> {
    let names = AuditAction::ALL.iter().map(|action| action.as_str());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<AuditAction>())
}

/// A time, or a time ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    At(Timestamp),
    Ago(TimeDelta),
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        let ago = humantime::parse_duration(text).ok().and_then(|ago| TimeDelta::from_std(ago).ok());
        ago.map(Self::Ago)
            .ok_or("neither a time like 2026-01-31T12:00:00Z nor a time ago like 30m, 24h or 7d")
    }
}

impl When {
    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub_signed(ago).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

pub(crate) async fn run(arguments: Arguments, globals: &Globals) -> anyhow::Result<ExitCode> {
    let format = globals.format();
    globals.connected(async |context| arguments.run(context, format).await).await?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    async fn run(&self, context: &Context, format: Format) -> anyhow::Result<()> {
        check_registered(context, self.app.as_slice()).await?;
        let now = context.now();
        let filter = AuditFilter {
            app_id: self.app.clone(),
            app_ids: Vec::new(),
            person: self.person.clone(),
            actor: self.actor.clone(),
            action: self.action,
            since: self.since.map(|since| since.at(now)),
            until: self.until.map(|until| until.at(now)),
        };
        let (mut records, mut after) = (Vec::new(), None);
        // One more than asked for shows whether there are more.
        let wanted = self.limit as usize + 1;
        while records.len() < wanted {
            let page = context.audit_records(&operator(), now, &filter, after, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            after = page.last().map(|last| AuditCursor { at: last.at, id: last.id });
            records.extend(page.into_iter().map(audit_view));
            if is_last {
                break;
            }
        }
        let has_more = records.len() >= wanted;
        records.truncate(wanted - 1);
        let headers =
            ["TIME", "ACTOR", "ACTION", "RESULT", "APP", "PERSON", "SESSION OR KEY", "FROM", "REQUEST"];
        format.list(&records, &headers, row)?;
        if has_more {
            report::note("There are more: give a larger --limit, or a narrower filter");
        }
        Ok(())
    }
}

fn row(record: &AuditRecordView) -> Vec<String> {
    let name = record.actor_name.as_ref().unwrap_or(&record.actor_id);
    let result = match &record.reason {
        Some(reason) => format!("{} ({reason})", record.outcome),
        None => record.outcome.clone(),
    };
    let action = match record.count {
        1 => record.action.clone(),
        count => format!("{} ({count} times)", record.action),
    };
    let about = record.session_id.or(record.key_id).map(|id| id.to_string());
    let about = about.or_else(|| record.encryption_key.clone());
    vec![
        time(record.at),
        format!("{}:{name}", record.actor_kind),
        action,
        result,
        or_dash(record.app_id.as_ref()),
        or_dash(record.person.as_ref()),
        or_dash(about),
        or_dash(record.address.as_ref()),
        or_dash(record.request_id.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_is_a_time_or_a_time_ago() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<When>().map(|when| when.at(now).to_rfc3339());
        assert_eq!(at("24h").unwrap(), "2026-02-28T12:00:00+00:00");
        assert_eq!(at("2026-02-01T08:00:00+08:00").unwrap(), "2026-02-01T00:00:00+00:00");
        assert_eq!(at("1000000y").unwrap(), "1970-01-01T00:00:00+00:00");
        assert!(at("yesterday").unwrap_err().contains("24h"));
    }
}
