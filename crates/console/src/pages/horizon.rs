//! `/console/horizon`: who loses access when, and why.

use askama::Template;
use axum::response::Response;
use chrono::TimeDelta;
use larkauth_models::{AppId, LossReason, Timestamp};
use larkauth_storage::{HorizonCursor, HorizonFilter, Loss};

use super::{choice::Choice, cursor};
use crate::{
    failure::Failure,
    format::When,
    shell::{Shell, page},
    target,
    visit::{TokensRead, Visit},
    words,
};

const PAGE: u32 = 50;
/// Days to look ahead and back.
const DAYS: [i64; 5] = [1, 7, 30, 90, 365];
const USUAL_DAYS: i64 = 30;
const FILTER: [&str; 2] = ["app_id", "days"];

struct Row {
    at: When,
    is_lost: bool,
    reason: &'static str,
    app_id: String,
    open_id: String,
    /// Query of the person's page.
    person: String,
}

#[derive(Template)]
#[template(path = "horizon.html")]
struct HorizonView {
    shell: Shell,
    apps: Vec<Choice>,
    /// An application need not be named.
    has_all: bool,
    days: Vec<Choice>,
    counts: Vec<(&'static str, u64)>,
    unreadable: Vec<(String, u64)>,
    rows: Vec<Row>,
    is_first: bool,
    first: String,
    next: Option<String>,
}

pub(crate) async fn show(visit: Visit<TokensRead>) -> Result<Response, Failure> {
    let Visit { context, actor, now, lang, query, .. } = &visit;
    let apps = context.visible_app_ids(actor, *now).await?;
    let has_all = actor.access().is_none_or(|access| access.app_ids.is_empty());
    let named = query.value::<AppId>("app_id")?;
    let app_id = named.or_else(|| apps.first().filter(|_| !has_all).cloned());
    let days = query.value::<i64>("days")?.filter(|days| DAYS.contains(days)).unwrap_or(USUAL_DAYS);
    let within = TimeDelta::days(days);
    let filter = HorizonFilter { app_id, from: *now - within, until: *now + within };
    let after = read_cursor(&visit)?;
    let found = context.horizon(actor, *now, &filter, after.as_ref(), PAGE).await?;
    let next = found.next.map(|next| {
        let end = cursor::write(next.at, &format!("{}.{}", next.app_id, next.open_id));
        format!("horizon?{}", query.again(&FILTER, &[(cursor::AFTER, &end)]))
    });
    let chosen_days = days.to_string();
    let day = |days: i64| {
        let text = format!("± {days} {}", lang.t("d", "天"));
        Choice::new(&days.to_string(), text, Some(&chosen_days))
    };
    Ok(page(&HorizonView {
        shell: visit.shell(),
        apps: Choice::of_apps(&apps, filter.app_id.as_ref().map(AppId::as_str)),
        has_all,
        days: DAYS.map(day).into(),
        counts: found.counts.iter().map(|count| (words::loss(*lang, count.reason), count.people)).collect(),
        unreadable: found.unreadable.counts.into_iter().map(key_of).collect(),
        rows: found.losses.iter().map(|loss| row(&visit, loss)).collect(),
        is_first: after.is_none(),
        first: format!("horizon?{}", query.again(&FILTER, &[])),
        next,
    }))
}

/// Returns the id of a missing key, and how many tokens need it.
fn key_of((id, tokens): (Option<String>, u64)) -> (String, u64) {
    (id.unwrap_or_else(|| "?".to_owned()), tokens)
}

fn read_cursor(visit: &Visit<TokensRead>) -> Result<Option<HorizonCursor>, Failure> {
    let Some((at, rest)) = cursor::read(&visit.query)? else { return Ok(None) };
    let (app_id, open_id) = rest.split_once('.').ok_or_else(cursor::invalid)?;
    Ok(Some(HorizonCursor { at, app_id: app_id.to_owned(), open_id: open_id.to_owned() }))
}

fn row(visit: &Visit<TokensRead>, loss: &Loss) -> Row {
    let (lang, now): (_, Timestamp) = (visit.lang, visit.now);
    Row {
        is_lost: loss.at <= now || loss.reason == LossReason::Suspended,
        at: When::new(lang, now, loss.at),
        reason: words::loss(lang, loss.reason),
        person: target::query([("app_id", loss.app_id.as_str()), ("open_id", loss.open_id.as_str())]),
        app_id: loss.app_id.to_string(),
        open_id: loss.open_id.to_string(),
    }
}
