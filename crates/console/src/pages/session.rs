//! `/console/session`: one session.

use askama::Template;
use axum::response::Response;
use larkauth_models::{OpenId, SessionId, UserId};

use crate::{
    failure::Failure,
    format::{When, plain},
    shell::{Shell, page},
    target,
    visit::{SessionsRead, Visit},
    words::{self, Badge},
};

#[derive(Template)]
#[template(path = "session.html")]
struct SessionPage {
    shell: Shell,
    id: String,
    app_id: String,
    name: String,
    open_id: Option<String>,
    user_id: Option<String>,
    /// Query of the person's page.
    person: Option<String>,
    method: &'static str,
    state: Badge,
    reason: &'static str,
    scopes: Vec<String>,
    missing: Vec<String>,
    message_id: Option<String>,
    created: When,
    expires: When,
    completed: Option<When>,
}

pub(crate) async fn show(visit: Visit<SessionsRead>) -> Result<Response, Failure> {
    let Visit { context, actor, now, lang, query, .. } = &visit;
    let id: SessionId = query.needed("id")?;
    let session = context.session(actor, *now, id).await?;
    let open_id = session.person.open_id.as_ref().map(OpenId::to_string);
    let person = open_id
        .as_deref()
        .map(|open_id| target::query([("app_id", session.app_id.as_str()), ("open_id", open_id)]));
    Ok(page(&SessionPage {
        shell: visit.shell(),
        id: id.to_string(),
        app_id: session.app_id.to_string(),
        name: session.user_name.as_deref().map(plain).unwrap_or_default(),
        user_id: session.person.user_id.as_ref().map(UserId::to_string),
        open_id,
        person,
        method: words::auth_method(*lang, session.auth_method),
        state: words::session_state(*lang, session.state),
        reason: session.failure_reason.map(|reason| words::failure(*lang, reason)).unwrap_or_default(),
        missing: session.missing_scopes().unwrap_or_default(),
        message_id: session.message_id.as_ref().map(ToString::to_string),
        created: When::new(*lang, *now, session.created_at),
        expires: When::new(*lang, *now, session.expires_at),
        completed: When::maybe(*lang, *now, session.completed_at),
        scopes: session.scopes,
    }))
}
