//! The frame around every page: navigation, language, who is logged in.

use std::sync::LazyLock;

use askama::Template;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use larkauth_models::{ExposeSecret, KeyScope, Timestamp};
use sha2::{Digest, Sha256};

use crate::{failure::Failure, format, lang::Lang, target, visitor::Visitor, words};

const STYLE: &str = include_str!("../templates/console.css");

/// The one style sheet is the one with this hash; forms go to the console only.
pub(crate) static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
});

/// The pages of the navigation: address, English and Chinese name, scope.
const NAV: [(&str, &str, &str, Option<KeyScope>); 7] = [
    ("", "Overview", "概览", None),
    ("sessions", "Sessions", "会话", Some(KeyScope::SessionsRead)),
    ("people", "People", "用户", Some(KeyScope::TokensRead)),
    ("horizon", "Horizon", "到期预测", Some(KeyScope::TokensRead)),
    ("dead-letters", "Dead letters", "死信", Some(KeyScope::Everything)),
    ("audit", "Audit", "审计", Some(KeyScope::AuditRead)),
    ("apps", "Applications", "应用", Some(KeyScope::AppsAdmin)),
];

/// Pages without an entry of their own, and the one that they belong to.
const BELONGS_TO: [(&str, &str); 8] = [
    ("session", "sessions"),
    ("person", "people"),
    ("refresh", "people"),
    ("revoke", "people"),
    ("requeue", "dead-letters"),
    ("drop", "dead-letters"),
    ("enable", "apps"),
    ("disable", "apps"),
];

/// A page of the navigation.
pub(crate) struct NavItem {
    pub(crate) href: &'static str,
    pub(crate) name: &'static str,
    pub(crate) is_here: bool,
    /// The key lacks the scope.
    pub(crate) is_locked: bool,
}

/// What every template shows around its own content.
pub(crate) struct Shell {
    pub(crate) lang: Lang,
    pub(crate) style: &'static str,
    /// Empty when no key is logged in.
    pub(crate) nav: Vec<NavItem>,
    pub(crate) key_name: String,
    /// Value of the field `csrf` of every form.
    pub(crate) csrf: String,
    /// Address that shows this page in the other language.
    pub(crate) switch: String,
    /// What was just done.
    pub(crate) notice: Option<&'static str>,
    pub(crate) now: String,
}

impl Shell {
    pub(crate) fn new(visitor: &Visitor, now: Timestamp) -> Self {
        let lang = visitor.lang;
        let (page, query) = visitor.here.split_once('?').unwrap_or((&visitor.here, ""));
        let here = BELONGS_TO.iter().find(|(name, _)| *name == page).map_or(page, |(_, owner)| owner);
        let login = visitor.login.as_ref();
        let item = |(href, english, chinese, scope): (&'static str, _, _, Option<KeyScope>)| NavItem {
            href: if href.is_empty() { "./" } else { href },
            name: lang.t(english, chinese),
            is_here: here == href,
            is_locked: scope
                .is_some_and(|scope| login.is_none_or(|login| !scope.is_among(&login.key.scopes))),
        };
        let back = target::checked(&visitor.here).unwrap_or_default();
        let done = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "done");
        Self {
            lang,
            style: STYLE,
            nav: login.map(|_| NAV.map(item).into()).unwrap_or_default(),
            key_name: login.map(|login| format::plain(&login.key.name)).unwrap_or_default(),
            csrf: login.map(|login| login.session.csrf_token.expose_secret().to_owned()).unwrap_or_default(),
            switch: format!("language?{}", target::query([("to", lang.other().tag()), ("back", back)])),
            notice: done.and_then(|(_, what)| words::done(lang, &what)),
            now: format::time(now),
        }
    }

    /// Returns the text in the language of the page.
    pub(crate) const fn t(&self, english: &'static str, chinese: &'static str) -> &'static str {
        self.lang.t(english, chinese)
    }
}

/// Renders a page.
pub(crate) fn page(template: &impl Template) -> Response {
    page_with(StatusCode::OK, template)
}

/// Renders a page with another status.
pub(crate) fn page_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => Failure::Internal(error.to_string()).into_response(),
    }
}
