//! `/console/login` and `/console/logout`.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    Extension,
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use larkauth_contracts::problem::seconds_to_wait;
use sha2::{Digest, Sha256};

use crate::{
    cookie,
    failure::Failure,
    same_origin::is_same_origin,
    shell::{Shell, page_with},
    state::Console,
    target,
    visit::{AnyKey, Fields, Posted},
    visitor::{Visitor, actor},
};

/// Longest key that is looked at, in bytes.
const MAX_KEY: usize = 512;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    shell: Shell,
    /// Where to go after the login.
    next: String,
    problem: Option<&'static str>,
}

pub(crate) async fn show(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Arc<Visitor>>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let next = query.get("next").and_then(target::checked).unwrap_or_default();
    if visitor.login.is_some() {
        return target::see(next);
    }
    form(&console, &visitor, next, StatusCode::OK, None)
}

pub(crate) async fn log_in(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Arc<Visitor>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    if !is_same_origin(&headers, &visitor.reached) {
        return Err(Failure::Form);
    }
    let sent = Fields::parse(&body);
    let next = sent.get("next").and_then(target::checked).unwrap_or_default();
    let address = visitor.reached.origin.address.as_deref().unwrap_or_default();
    if let Err(wait) = console.attempts.count(address).await {
        return Ok(too_many(&console, &visitor, next, wait));
    }
    let secret = sent.get("key").filter(|key| key.len() <= MAX_KEY);
    let key = match secret {
        Some(secret) => {
            console.host.authenticate(secret).await?.map(|key| (key, Sha256::digest(secret).into()))
        }
        None => None,
    };
    let Some((key, sha256)) = key else {
        tracing::warn!(address, "console.login.refused: the API key is unknown, expired or was revoked");
        let wrong = visitor
            .lang
            .t("This API key is unknown, expired or was revoked.", "此 API 密钥不存在、已过期或已被撤销。");
        return Ok(form(&console, &visitor, next, StatusCode::UNAUTHORIZED, Some(wrong)));
    };
    console.host.count(&key).await.map_err(Failure::TooMany)?;
    console.attempts.forget(address).await;
    let (context, now) = (&console.context, console.context.now());
    let session = context.start_console_session(&actor(&key, &visitor.reached), now, sha256);
    let cookie = console.cookie_of(&session, &visitor.reached, now);
    let cookie = cookie.ok_or_else(|| Failure::Internal("no cookie could be made".to_owned()))?;
    let mut response = target::see(next);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

pub(crate) async fn log_out(Posted { visit, .. }: Posted<AnyKey>) -> Response {
    let (context, visitor) = (&visit.context, &visit.visitor);
    let Some(login) = &visitor.login else { return target::see("login") };
    let mut response = match context.end_console_session(&visit.actor, visit.now, &login.session).await {
        Ok(()) => target::see("login?done=logged_out"),
        // The browser forgets the login in any case.
        Err(error) => Failure::Logout(Arc::new(error)).into_response(),
    };
    response
        .headers_mut()
        .extend(cookie::drop_login(visitor.reached.is_tls).map(|cookie| (header::SET_COOKIE, cookie)));
    response
}

fn too_many(console: &Console, visitor: &Visitor, next: &str, wait: Duration) -> Response {
    let problem = visitor.lang.t(
        "Too many attempts from this address. Try again in a minute.",
        "此地址的尝试次数过多，请一分钟后重试。",
    );
    let mut response = form(console, visitor, next, StatusCode::TOO_MANY_REQUESTS, Some(problem));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds_to_wait(wait)));
    response
}

fn form(
    console: &Console,
    visitor: &Visitor,
    next: &str,
    status: StatusCode,
    problem: Option<&'static str>,
) -> Response {
    let shell = Shell::new(visitor, console.context.now());
    page_with(status, &LoginPage { shell, next: next.to_owned(), problem })
}
