//! What every request to the console passes through: the login of its cookie, checked anew, and the page of what failed.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use larkauth_auth::ConsoleSession;
use larkauth_models::Timestamp;

use crate::{
    cookie,
    failure::Failure,
    failure_page::FailurePage,
    host::Reached,
    lang::Lang,
    shell::{CONTENT_SECURITY_POLICY, Shell},
    state::Console,
    target,
    visitor::{Login, Visitor},
};

/// Uses of a login that follow each other faster are not written into the cookie: 1 min.
const RENEW_AFTER: TimeDelta = TimeDelta::minutes(1);

/// Reads the login before a request and completes the answer after it.
pub(crate) async fn with_login(
    State(console): State<Arc<Console>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let reached = console.host.reached(&parts);
    let now = console.context.now();
    let found = console.find_login(&parts.headers, &reached, now).await;
    let (lang, here) = (Lang::of(&parts.headers), target::of(&parts.uri));
    let (login, failure) = match found {
        Ok(login) => (login, None),
        Err(failure) => (None, Some(failure)),
    };
    let visitor = Arc::new(Visitor { lang, reached, here, login });
    let response = match failure {
        Some(failure) => failure.into_response(),
        None => {
            parts.extensions.insert(visitor.clone());
            next.run(Request::from_parts(parts, body)).await
        }
    };
    console.finish(response, &visitor, now)
}

impl Console {
    async fn find_login(
        &self,
        headers: &HeaderMap,
        reached: &Reached,
        now: Timestamp,
    ) -> Result<Option<Login>, Failure> {
        for sealed in cookie::logins(headers, reached.is_tls) {
            let Some(session) = self.context.console_session(now, sealed).await? else { continue };
            let Some(key) = self.host.key(&session.key_sha256).await? else { continue };
            self.host.count(&key).await.map_err(Failure::TooMany)?;
            return Ok(Some(Login::new(session, key, reached)));
        }
        Ok(None)
    }

    fn finish(&self, mut response: Response, visitor: &Visitor, now: Timestamp) -> Response {
        if let Some(failure) = response.extensions_mut().remove::<Failure>() {
            let cookie = response.headers_mut().remove(header::SET_COOKIE);
            response = FailurePage::new(Shell::new(visitor, now), &failure).respond();
            response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
        }
        if let Some(login) = &visitor.login
            && now - login.session.used_at >= RENEW_AFTER
            && !response.headers().contains_key(header::SET_COOKIE)
        {
            let cookie = self.cookie_of(&login.session, &visitor.reached, now);
            response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
        }
        protect(response.headers_mut());
        response
    }

    /// Returns the `Set-Cookie` of a login that is used now.
    pub(crate) fn cookie_of(
        &self,
        session: &ConsoleSession,
        reached: &Reached,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let lives = ConsoleSession { used_at: now, ..session.clone() }.ends_at() - now;
        match self.context.seal_console_session(now, session) {
            Ok(sealed) => cookie::keep_login(&sealed, reached.is_tls, lives),
            Err(error) => {
                tracing::error!(%error, "console.login.seal");
                None
            }
        }
    }
}

/// The pages load nothing, run nothing, may not be framed and are not kept.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        // `no-referrer` would hide the origin of a form from this console too.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::VARY, "accept-language, cookie"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(&CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}
