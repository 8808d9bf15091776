//! `/console/people`: the people of one application, by the state of their tokens.

use askama::Template;
use axum::response::Response;
use larkauth_models::{AppId, OpenId};
use larkauth_storage::TokenState;

use super::{choice::Choice, cursor};
use crate::{
    failure::Failure,
    format::When,
    shell::{Shell, page},
    target,
    visit::{TokensRead, Visit},
    words::{self, Badge},
};

const PAGE: u32 = 50;

struct Row {
    open_id: String,
    /// Query of the person's page.
    person: String,
    status: Badge,
    suspended_for: &'static str,
    access_ends: When,
    refresh_ends: Option<When>,
    generation: i64,
    failures: u32,
}

#[derive(Template)]
#[template(path = "people.html")]
struct PeoplePage {
    shell: Shell,
    apps: Vec<Choice>,
    open_id: String,
    rows: Vec<Row>,
    is_first: bool,
    first: String,
    next: Option<String>,
}

pub(crate) async fn show(visit: Visit<TokensRead>) -> Result<Response, Failure> {
    let Visit { context, actor, now, query, .. } = &visit;
    let apps = context.visible_app_ids(actor, *now).await?;
    let app_id = query.value::<AppId>("app_id")?.or_else(|| apps.first().cloned());
    let after: Option<OpenId> = query.value(cursor::AFTER)?;
    let searched: Option<OpenId> = query.value("open_id")?;
    let mut tokens = match (&app_id, &searched) {
        (Some(app_id), Some(open_id)) => {
            let found = context.token_standing(actor, *now, app_id, open_id).await?;
            found.into_iter().map(|standing| standing.token).collect()
        }
        (Some(app_id), None) => {
            // One more than shown tells whether there is another page.
            context.list_tokens(actor, *now, app_id, after.as_ref(), PAGE + 1).await?
        }
        (None, _) => Vec::new(),
    };
    let has_more = tokens.len() > PAGE as usize;
    tokens.truncate(PAGE as usize);
    let chosen = app_id.as_ref().map(AppId::as_str);
    let same = chosen.map(|app_id| ("app_id", app_id));
    let next = tokens.last().filter(|_| has_more).map(|last| {
        let after = (cursor::AFTER, last.open_id.as_str());
        format!("people?{}", target::query(same.into_iter().chain([after])))
    });
    Ok(page(&PeoplePage {
        shell: visit.shell(),
        apps: Choice::of_apps(&apps, chosen),
        open_id: query.get("open_id").unwrap_or_default().to_owned(),
        rows: tokens.iter().map(|token| row(&visit, token)).collect(),
        is_first: after.is_none(),
        first: format!("people?{}", target::query(same)),
        next,
    }))
}

fn row(visit: &Visit<TokensRead>, token: &TokenState) -> Row {
    let (lang, now) = (visit.lang, visit.now);
    Row {
        person: target::query([("app_id", token.app_id.as_str()), ("open_id", token.open_id.as_str())]),
        open_id: token.open_id.to_string(),
        status: words::token_status(lang, token.status),
        suspended_for: token.suspended_for.map(|reason| words::suspension(lang, reason)).unwrap_or_default(),
        access_ends: When::new(lang, now, token.access_expires_at),
        refresh_ends: When::maybe(lang, now, token.refresh_expires_at),
        generation: token.generation,
        failures: token.failures,
    }
}
