use std::sync::LazyLock;

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use larkauth_models::Locale;
use sha2::{Digest, Sha256};

use super::words::{Outcome, WAITED_ENOUGH, Words};
use crate::problem::ApiError;

const STYLE: &str = include_str!("../../templates/landing.css");

/// The page loads nothing, runs nothing and may not be framed. Its one style sheet is the one with this hash.
static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Counts how often the page has looked again. In a cookie, because the address is Lark's and is never repeated in the
/// page; it is forgotten soon after the page is closed.
const TRIES: &str = "larkauth_tries";
const TRIES_LIVE: u32 = 20;
/// After so many looks, of some five seconds each, the card will tell.
const MAX_TRIES: u32 = 30;
/// Seconds until the page looks again.
const LOOK_AGAIN: u32 = 2;

/// How often the page has looked again so far; nonsense counts as often enough.
pub(super) fn tries_so_far(headers: &HeaderMap) -> u32 {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix(TRIES)?.strip_prefix('='))
        .map_or(0, |tries| tries.parse().unwrap_or(MAX_TRIES))
}

/// Words in their language.
struct Spoken {
    lang: &'static str,
    words: Words,
}

/// What the person sees: the sign, the words in their language, and the same in the other one.
#[derive(Template)]
#[template(path = "landing.html")]
pub(super) struct Page<'a> {
    style: &'static str,
    sign: &'static str,
    class: &'static str,
    name: Option<&'a str>,
    first: Spoken,
    second: Spoken,
    look_again: Option<u32>,
    #[template(ignore)]
    outcome: &'a Outcome,
    #[template(ignore)]
    tries: u32,
}

impl<'a> Page<'a> {
    pub(super) fn new(outcome: &'a Outcome, accept_language: &str, tries: u32) -> Self {
        let waiting = *outcome == Outcome::Processing;
        let (english, chinese) = if waiting && tries >= MAX_TRIES {
            WAITED_ENOUGH
        } else {
            (outcome.english(), outcome.chinese())
        };
        let english = Spoken { lang: "en", words: english };
        let chinese = Spoken { lang: "zh-CN", words: chinese };
        let (first, second, names) = match (preferred(accept_language), outcome.names()) {
            (Locale::ZhCn, [name, english_name]) => (chinese, english, [name, english_name]),
            (Locale::EnUs, [name, english_name]) => (english, chinese, [english_name, name]),
        };
        Self {
            style: STYLE,
            sign: outcome.tone().sign(),
            class: outcome.tone().class(),
            name: names.into_iter().flatten().next(),
            first,
            second,
            look_again: (waiting && tries < MAX_TRIES).then_some(LOOK_AGAIN),
            outcome,
            tries,
        }
    }

    pub(super) fn respond(&self) -> Response {
        let page = match self.render() {
            Ok(page) => page,
            Err(error) => return ApiError::internal(error).into_response(),
        };
        let mut response = (self.outcome.status(), Html(page)).into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::VARY, "accept-language"),
            (HeaderName::from_static("x-robots-tag"), "noindex"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Ok(policy) = HeaderValue::from_str(&CONTENT_SECURITY_POLICY) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        if *self.outcome == Outcome::TryAgain {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if self.look_again.is_some() {
            let tries = self.tries.saturating_add(1);
            // Without a path the cookie belongs to the folder of the address in the browser, which a proxy may have prefixed.
            let cookie = format!("{TRIES}={tries}; Max-Age={TRIES_LIVE}; HttpOnly; SameSite=Lax");
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                headers.insert(header::SET_COOKIE, cookie);
            }
        }
        response
    }
}

/// Returns Chinese when the browser prefers it to English, else English.
fn preferred(accept_language: &str) -> Locale {
    let mut best = (Locale::EnUs, 0.0);
    for range in accept_language.split(',').take(20) {
        let mut parts = range.split(';');
        let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let quality =
            parts.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        let locale = match tag.split('-').next() {
            Some("zh") => Locale::ZhCn,
            Some("en") => Locale::EnUs,
            _ => continue,
        };
        if quality > best.1 {
            best = (locale, quality);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use larkauth_models::FailureReason;

    use super::*;

    fn outcomes() -> Vec<Outcome> {
        let mut all = vec![
            Outcome::Authorized { name: None, english_name: None },
            Outcome::Declined,
            Outcome::Expired,
            Outcome::Processing,
            Outcome::UnknownLink,
            Outcome::LinkUsed,
            Outcome::ConsentFailed,
            Outcome::TryAgain,
            Outcome::Failed(None),
        ];
        all.extend(FailureReason::ALL.iter().map(|reason| Outcome::Failed(Some(*reason))));
        all
    }

    #[test]
    fn page_in_both_languages_matches_snapshot() {
        let authorized = Outcome::Authorized {
            name: Some("<b>李雷</b>".to_owned()),
            english_name: Some("Li Lei".to_owned()),
        };
        insta::assert_snapshot!(
            "authorized_zh",
            Page::new(&authorized, "zh-CN,zh;q=0.9", 0).render().unwrap()
        );
        insta::assert_snapshot!(
            "processing_en",
            Page::new(&Outcome::Processing, "en-US", 3).render().unwrap()
        );
    }

    #[test]
    fn page_uses_name_of_the_language() {
        let called = |name: Option<&str>, english_name: Option<&str>, language| {
            let [name, english_name] = [name, english_name].map(|name| name.map(str::to_owned));
            let outcome = Outcome::Authorized { name, english_name };
            Page::new(&outcome, language, 0).name.map(str::to_owned)
        };
        assert_eq!(called(Some("李雷"), Some("Li Lei"), "en").as_deref(), Some("Li Lei"));
        assert_eq!(called(Some("李雷"), Some("Li Lei"), "zh").as_deref(), Some("李雷"));
        assert_eq!(called(Some("李雷"), None, "en").as_deref(), Some("李雷"));
        assert_eq!(called(None, None, "en"), None);
    }

    #[test]
    fn words_of_every_outcome_match_snapshot() {
        let text = outcomes().iter().fold(String::new(), |all, outcome| {
            let (en, zh) = (outcome.english(), outcome.chinese());
            let (status, sign) = (outcome.status().as_u16(), outcome.tone().sign());
            format!("{all}{status} {sign} {}: {}\n      {}：{}\n", en.title, en.text, zh.title, zh.text)
        });
        insta::assert_snapshot!("words_of_every_outcome", text);
    }

    #[test]
    fn preferred_language_follows_accept_language() {
        for (header, expected) in [
            ("", Locale::EnUs),
            ("zh-CN", Locale::ZhCn),
            ("fr, zh;q=0.8, en;q=0.5", Locale::ZhCn),
            ("en-GB;q=0.9, zh-TW;q=0.8", Locale::EnUs),
            ("zh;q=0", Locale::EnUs),
            ("zh;q=nonsense", Locale::ZhCn),
        ] {
            assert_eq!(preferred(header), expected, "{header}");
        }
    }

    #[test]
    fn processing_page_stops_reloading_after_limit() {
        let waiting = |tries| Page::new(&Outcome::Processing, "", tries);
        assert!(waiting(MAX_TRIES - 1).render().unwrap().contains("http-equiv=\"refresh\""));
        let last = waiting(MAX_TRIES);
        assert!(!last.render().unwrap().contains("refresh"));
        assert!(last.respond().headers().get(header::SET_COOKIE).is_none());
        let cookie = |text: &'static str| {
            tries_so_far(&HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(text))]))
        };
        assert_eq!(cookie("a=1; larkauth_tries=7"), 7);
        assert_eq!((cookie("larkauth_tries=x"), cookie("a=b")), (MAX_TRIES, 0));
    }
}
