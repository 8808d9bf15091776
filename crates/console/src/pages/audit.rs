//! `/console/audit`: who did what, newest first.

use askama::Template;
use axum::response::Response;
use chrono::NaiveDateTime;
use larkauth_models::{AppId, AuditAction, Timestamp};
use larkauth_storage::{AuditCursor, AuditEntry, AuditFilter};

use super::{choice::Choice, cursor};
use crate::{
    failure::Failure,
    format::{self, plain},
    lang::Lang,
    shell::{Shell, page},
    target,
    visit::{AuditRead, Fields, Visit},
    words::{self, Badge},
};

const PAGE: u32 = 50;
const FILTER: [&str; 6] = ["app_id", "person", "actor", "action", "since", "until"];
/// What a browser sends for a time, with and without seconds.
const TIMES: [&str; 2] = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];

struct Row {
    at: String,
    actor: String,
    action: String,
    app_id: String,
    person: String,
    session: Option<String>,
    origin: String,
    request_id: String,
    outcome: Badge,
    reason: String,
    count: i32,
    /// Address of the same list for this person.
    same_person: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    apps: Vec<Choice>,
    actions: Vec<Choice>,
    person: String,
    actor: String,
    since: String,
    until: String,
    rows: Vec<Row>,
    is_first: bool,
    first: String,
    next: Option<String>,
}

pub(crate) async fn show(visit: Visit<AuditRead>) -> Result<Response, Failure> {
    let Visit { context, actor, now, lang, query, .. } = &visit;
    let text = |name| query.get(name).map(str::to_owned);
    let filter = AuditFilter {
        app_id: query.value::<AppId>("app_id")?,
        app_ids: Vec::new(),
        person: text("person"),
        actor: text("actor"),
        action: query.value::<AuditAction>("action")?,
        since: time(query, "since")?,
        until: time(query, "until")?,
    };
    let after = cursor::read_with_id(query)?.map(|(at, id)| AuditCursor { at, id });
    // One more than shown tells whether there is another page.
    let mut records = context.audit_records(actor, *now, &filter, after, PAGE + 1).await?;
    let has_more = records.len() > PAGE as usize;
    records.truncate(PAGE as usize);
    let next = records.last().filter(|_| has_more).map(|last| {
        let end = cursor::write(last.at, &last.id.to_string());
        format!("audit?{}", query.again(&FILTER, &[(cursor::AFTER, &end)]))
    });
    let apps = context.visible_app_ids(actor, *now).await?;
    let actions = AuditAction::ALL.iter().map(|a| Choice::new(a.as_str(), a.as_str(), query.get("action")));
    Ok(page(&AuditPage {
        shell: visit.shell(),
        apps: Choice::of_apps(&apps, query.get("app_id")),
        actions: actions.collect(),
        person: text("person").unwrap_or_default(),
        actor: text("actor").unwrap_or_default(),
        since: text("since").unwrap_or_default(),
        until: text("until").unwrap_or_default(),
        rows: records.into_iter().map(|record| row(*lang, record)).collect(),
        is_first: after.is_none(),
        first: format!("audit?{}", query.again(&FILTER, &[])),
        next,
    }))
}

fn row(lang: Lang, record: AuditEntry) -> Row {
    let person = record.person.unwrap_or_default();
    let kind_and_name = [Some(record.actor_kind), record.actor_name.or(Some(record.actor_id))];
    Row {
        at: format::time(record.at),
        actor: plain(&kind_and_name.into_iter().flatten().collect::<Vec<_>>().join(" ")),
        action: plain(&record.action),
        app_id: record.app_id.as_deref().map(plain).unwrap_or_default(),
        same_person: target::query([("person", person.as_str())]),
        person: plain(&person),
        session: record.session_id.map(|id| id.to_string()),
        origin: record.address.as_deref().map(plain).unwrap_or_default(),
        request_id: record.request_id.as_deref().map(plain).unwrap_or_default(),
        outcome: words::outcome(lang, &record.outcome),
        reason: record.reason.as_deref().map(plain).unwrap_or_default(),
        count: record.count,
    }
}

/// Reads a time of the form, in UTC.
fn time(query: &Fields, name: &str) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let parsed = TIMES.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    match parsed {
        Some(at) => Ok(Some(at.and_utc())),
        None => Err(Failure::Invalid(format!("{name}: expected a time like 2026-01-31T08:00"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_browser_is_utc() {
        let read = |text: &str| time(&Fields::parse(format!("since={text}").as_bytes()), "since");
        for (text, expected) in
            [("2026-01-31T08:00", "2026-01-31 08:00:00"), ("2026-01-31T08:00:59", "2026-01-31 08:00:59")]
        {
            assert_eq!(read(text).unwrap().map(format::time).as_deref(), Some(expected));
        }
        assert!(read("").unwrap().is_none() && read("yesterday").is_err());
    }
}
