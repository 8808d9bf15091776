//! The two cookies of the console. They name no path, so they belong to the folder of the address in the browser, which a
//! proxy may have prefixed.

use axum::http::{HeaderMap, HeaderValue, header};
use chrono::TimeDelta;
use larkauth_models::{ExposeSecret, SecretString};

/// Cookie of the login.
const LOGIN: &str = "larkauth_console";
/// The same over TLS: a browser takes it only with `Secure`, so that a page without TLS cannot replace it.
const SECURE_LOGIN: &str = "__Secure-larkauth_console";
/// Cookie of the chosen language.
const LANGUAGE: &str = "larkauth_console_language";
/// Life of the chosen language: a year.
const LANGUAGE_LIVES: TimeDelta = TimeDelta::days(365);
/// Most cookies of one name that are looked at.
const MAX_SAME: usize = 4;

const fn login_name(is_tls: bool) -> &'static str {
    if is_tls { SECURE_LOGIN } else { LOGIN }
}

/// Returns the sealed logins that the browser sent.
pub(crate) fn logins(headers: &HeaderMap, is_tls: bool) -> impl Iterator<Item = &str> {
    values(headers, login_name(is_tls)).take(MAX_SAME)
}

/// Returns the chosen language.
pub(crate) fn language(headers: &HeaderMap) -> Option<&str> {
    values(headers, LANGUAGE).next()
}

fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let cookies = lines.flat_map(|line| line.split(';'));
    cookies.filter_map(move |cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Returns the `Set-Cookie` of a login that ends after `lives`.
pub(crate) fn keep_login(sealed: &SecretString, is_tls: bool, lives: TimeDelta) -> Option<HeaderValue> {
    let mut value = set(login_name(is_tls), sealed.expose_secret(), is_tls, lives)?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the `Set-Cookie` that removes the login.
pub(crate) fn drop_login(is_tls: bool) -> Option<HeaderValue> {
    set(login_name(is_tls), "", is_tls, TimeDelta::zero())
}

/// Returns the `Set-Cookie` of the chosen language.
pub(crate) fn keep_language(tag: &'static str, is_tls: bool) -> Option<HeaderValue> {
    set(LANGUAGE, tag, is_tls, LANGUAGE_LIVES)
}

fn set(name: &str, value: &str, is_tls: bool, lives: TimeDelta) -> Option<HeaderValue> {
    let secure = if is_tls { "; Secure" } else { "" };
    let seconds = lives.num_seconds().max(0);
    let text = format!("{name}={value}; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_finds_cookie_of_the_scheme_only() {
        let headers = HeaderMap::from_iter([
            (
                header::COOKIE,
                HeaderValue::from_static("a=b; larkauth_console=1; __Secure-larkauth_console=2"),
            ),
            (header::COOKIE, HeaderValue::from_static("larkauth_console=3;larkauth_console_language=zh")),
        ]);
        assert_eq!(logins(&headers, false).collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(logins(&headers, true).collect::<Vec<_>>(), ["2"]);
        assert_eq!(language(&headers), Some("zh"));
    }

    #[test]
    fn keep_login_over_tls_is_secure_and_prefixed() {
        let sealed = SecretString::from("sealed");
        let cookie = |is_tls| {
            let value = keep_login(&sealed, is_tls, TimeDelta::minutes(30)).unwrap();
            assert!(value.is_sensitive());
            value.to_str().unwrap().to_owned()
        };
        assert_eq!(cookie(false), "larkauth_console=sealed; HttpOnly; SameSite=Strict; Max-Age=1800");
        assert_eq!(
            cookie(true),
            "__Secure-larkauth_console=sealed; HttpOnly; SameSite=Strict; Max-Age=1800; Secure"
        );
        assert!(drop_login(true).unwrap().to_str().unwrap().contains("Max-Age=0"));
    }
}
