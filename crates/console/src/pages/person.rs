//! `/console/person`: one person in one application. Shows neither a secret nor the person's mail address or number.

use askama::Template;
use axum::response::Response;
use larkauth_auth::TokenStanding;
use larkauth_models::{TokenStatus, UserId};

use crate::{
    failure::Failure,
    format::{When, plain},
    shell::{Shell, page},
    target,
    visit::{TokensRead, Visit},
    words::{self, Badge},
};

struct Token {
    status: Badge,
    is_served: bool,
    suspended_for: &'static str,
    access_ends: When,
    has_refresh_token: bool,
    refresh_ends: Option<When>,
    consent_ends: When,
    generation: i64,
    failures: u32,
    next_attempt: Option<When>,
    last_used: Option<When>,
    issued: When,
    revoked: Option<When>,
    scopes: Vec<String>,
    breaker: Option<String>,
    unreadable: Vec<String>,
    is_refreshable: bool,
    is_revocable: bool,
}

#[derive(Template)]
#[template(path = "person.html")]
struct PersonPage {
    shell: Shell,
    app_id: String,
    open_id: String,
    name: String,
    user_id: Option<String>,
    /// Query that names the person.
    person: String,
    token: Option<Token>,
}

pub(crate) async fn show(visit: Visit<TokensRead>) -> Result<Response, Failure> {
    let Visit { context, actor, now, query, .. } = &visit;
    let (app_id, open_id) = query.person()?;
    let standing = context.token_standing(actor, *now, &app_id, &open_id).await?;
    let profile = context.profile(actor, *now, &app_id, &open_id).await?;
    if standing.is_none() && profile.is_none() {
        return Err(Failure::NotFound(open_id.to_string()));
    }
    let names = profile.as_ref().map(|profile| [&profile.name, &profile.en_name]);
    let mut names: Vec<String> = names.into_iter().flatten().flatten().map(|name| plain(name)).collect();
    names.dedup();
    Ok(page(&PersonPage {
        shell: visit.shell(),
        person: target::query([("app_id", app_id.as_str()), ("open_id", open_id.as_str())]),
        app_id: app_id.to_string(),
        open_id: open_id.to_string(),
        name: names.join(" · "),
        user_id: profile.and_then(|profile| profile.user_id).as_ref().map(UserId::to_string),
        token: standing.map(|standing| token(&visit, standing)),
    }))
}

fn token(visit: &Visit<TokensRead>, standing: TokenStanding) -> Token {
    let (lang, now) = (visit.lang, visit.now);
    let TokenStanding { token, consent_ends_at, is_served, frozen_reason } = standing;
    let when = |at| When::maybe(lang, now, at);
    let secrets = [&token.access_token, &token.refresh_token].into_iter().flatten();
    let unreadable = secrets.filter_map(|secret| {
        let why = secret.unreadable.as_ref()?;
        Some(plain(&format!("{}: {}", why.column.trim_end_matches("_sealed"), why.reason)))
    });
    Token {
        unreadable: unreadable.collect(),
        status: words::token_status(lang, token.status),
        is_served,
        suspended_for: token.suspended_for.map(|reason| words::suspension(lang, reason)).unwrap_or_default(),
        access_ends: When::new(lang, now, token.access_expires_at),
        has_refresh_token: token.refresh_token.is_some(),
        refresh_ends: when(token.refresh_expires_at),
        consent_ends: When::new(lang, now, consent_ends_at),
        generation: token.generation,
        failures: token.failures,
        next_attempt: when(token.next_attempt_at),
        last_used: when(token.last_used_at),
        issued: When::new(lang, now, token.issued_at),
        revoked: when(token.revoked_at),
        breaker: frozen_reason.as_deref().map(plain),
        is_refreshable: token.refresh_token.is_some()
            && matches!(token.status, TokenStatus::Active | TokenStatus::OutcomeUnknown),
        is_revocable: token.status != TokenStatus::Revoked,
        scopes: token.scopes,
    }
}
