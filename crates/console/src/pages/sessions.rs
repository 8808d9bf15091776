//! `/console/sessions`: sessions, newest first.

use askama::Template;
use axum::response::Response;
use larkauth_models::{AppId, AuthSession, OpenId, SessionId, SessionState};
use larkauth_storage::{SessionCursor, SessionFilter};

use super::{choice::Choice, cursor};
use crate::{
    failure::Failure,
    format::{When, plain},
    shell::{Shell, page},
    visit::{SessionsRead, Visit},
    words::{self, Badge},
};

const PAGE: u32 = 50;
const FILTER: [&str; 3] = ["app_id", "open_id", "state"];

struct Row {
    id: String,
    app_id: String,
    name: String,
    person: String,
    method: &'static str,
    state: Badge,
    reason: &'static str,
    created: When,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    shell: Shell,
    apps: Vec<Choice>,
    states: Vec<Choice>,
    open_id: String,
    rows: Vec<Row>,
    is_first: bool,
    first: String,
    next: Option<String>,
}

pub(crate) async fn show(visit: Visit<SessionsRead>) -> Result<Response, Failure> {
    let Visit { context, actor, now, lang, query, .. } = &visit;
    let filter = SessionFilter {
        app_id: query.value::<AppId>("app_id")?,
        app_ids: Vec::new(),
        open_id: query.value::<OpenId>("open_id")?,
        state: query.value::<SessionState>("state")?,
    };
    let after = cursor::read_with_id(query)?;
    let is_first = after.is_none();
    let after = after.map(|(created_at, id)| SessionCursor { created_at, id: SessionId(id) });
    // One more than shown tells whether there is another page.
    let mut sessions = context.list_sessions(actor, *now, &filter, after, PAGE + 1).await?;
    let has_more = sessions.len() > PAGE as usize;
    sessions.truncate(PAGE as usize);
    let next = sessions.last().filter(|_| has_more).map(|last| {
        let end = cursor::write(last.created_at, &last.id.to_string());
        format!("sessions?{}", query.again(&FILTER, &[(cursor::AFTER, &end)]))
    });
    let apps = context.visible_app_ids(actor, *now).await?;
    let states = SessionState::ALL.iter().map(|state| {
        Choice::new(state.as_str(), words::session_state(*lang, *state).text, query.get("state"))
    });
    Ok(page(&SessionsPage {
        shell: visit.shell(),
        apps: Choice::of_apps(&apps, query.get("app_id")),
        states: states.collect(),
        open_id: query.get("open_id").unwrap_or_default().to_owned(),
        rows: sessions.iter().map(|session| row(&visit, session)).collect(),
        is_first,
        first: format!("sessions?{}", query.again(&FILTER, &[])),
        next,
    }))
}

fn row(visit: &Visit<SessionsRead>, session: &AuthSession) -> Row {
    Row {
        id: session.id.to_string(),
        app_id: session.app_id.to_string(),
        name: session.user_name.as_deref().map(plain).unwrap_or_default(),
        person: session.person.key().to_owned(),
        method: words::auth_method(visit.lang, session.auth_method),
        state: words::session_state(visit.lang, session.state),
        reason: session.failure_reason.map(|reason| words::failure(visit.lang, reason)).unwrap_or_default(),
        created: When::new(visit.lang, visit.now, session.created_at),
    }
}
