//! `/console/apps`: the registered applications, without their secrets.

use askama::Template;
use axum::response::Response;
use larkauth_storage::Registration;

use crate::{
    failure::Failure,
    format::{When, plain},
    shell::{Shell, page},
    target,
    visit::{AppsAdmin, Visit},
    words::{self, Badge},
};

struct Row {
    app_id: String,
    is_enabled: bool,
    enabled: Badge,
    /// Query of the pages that ask.
    query: String,
    /// `None`: its row cannot be decrypted.
    known: Option<Known>,
    unreadable: String,
}

struct Known {
    brand: &'static str,
    redirect_uri: String,
    scopes: Vec<String>,
    breaker: Badge,
    reason: String,
    since: Option<When>,
    callbacks: Vec<&'static str>,
}

#[derive(Template)]
#[template(path = "apps.html")]
struct AppsPage {
    shell: Shell,
    rows: Vec<Row>,
}

pub(crate) async fn show(visit: Visit<AppsAdmin>) -> Result<Response, Failure> {
    let applications = visit.context.applications(&visit.actor, visit.now).await?;
    let rows = applications.into_iter().map(|registration| row(&visit, registration)).collect();
    Ok(page(&AppsPage { shell: visit.shell(), rows }))
}

fn row(visit: &Visit<AppsAdmin>, registration: Registration) -> Row {
    let (lang, now) = (visit.lang, visit.now);
    let unreadable = registration.application.as_ref().err().map(|error| plain(&error.to_string()));
    let known = registration.application.ok().map(|app| Known {
        brand: app.brand.as_str(),
        redirect_uri: plain(app.redirect_uri.as_str()),
        breaker: words::breaker(lang, app.frozen_since.is_some()),
        reason: app.frozen_reason.as_deref().map(plain).unwrap_or_default(),
        since: When::maybe(lang, now, app.frozen_since),
        callbacks: [
            (app.verification_token.is_some(), lang.t("verification token", "校验令牌")),
            (app.encrypt_key.is_some(), lang.t("encrypt key", "加密密钥")),
        ]
        .into_iter()
        .filter_map(|(is_there, name)| is_there.then_some(name))
        .collect(),
        scopes: app.default_scopes,
    });
    Row {
        query: target::query([("app_id", registration.app_id.as_str())]),
        app_id: registration.app_id.to_string(),
        is_enabled: registration.enabled,
        enabled: words::enabled(lang, registration.enabled),
        known,
        unreadable: unreadable.unwrap_or_default(),
    }
}
