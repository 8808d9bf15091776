//! Addresses inside the console, relative to its folder.

use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

/// Longest address, in bytes.
const MAX: usize = 2048;

/// Returns what was asked for, relative to the folder of the console.
pub(crate) fn of(uri: &Uri) -> String {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    match uri.query() {
        Some(query) => format!("{name}?{query}"),
        None => name.to_owned(),
    }
}

/// Returns an address that a request names, if it leads to a page of the console: a name in lower case, and a query. `None`
/// for anything that could lead elsewhere.
pub(crate) fn checked(target: &str) -> Option<&str> {
    let name = target.split('?').next().unwrap_or_default();
    let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let is_plain = target.bytes().all(|b| b.is_ascii_graphic()) && target.len() <= MAX;
    (is_name && is_plain).then_some(target)
}

/// Redirects to an address inside the console, with `GET`. The browser resolves it against the address that it asked for.
pub(crate) fn see(target: &str) -> Response {
    let target =
        if target.is_empty() || target.starts_with('?') { format!("./{target}") } else { target.to_owned() };
    match HeaderValue::try_from(target) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// `/console`, without the slash.
pub(crate) async fn to_overview() -> Response {
    see("console/")
}

/// Returns a query without its `?`, encoded.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_refuses_what_leads_elsewhere() {
        for good in ["", "sessions", "dead-letters", "session?id=1", "?x=1", "person?app_id=a&open_id=b"] {
            assert_eq!(checked(good), Some(good));
        }
        for bad in [
            "//evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/v1/apps",
            "../v1",
            "\\evil",
            "a\r\nb",
            "%2f%2fevil",
            ".",
        ] {
            assert_eq!(checked(bad), None, "{bad}");
        }
        assert_eq!(checked(&"a".repeat(MAX + 1)), None);
    }

    #[test]
    fn see_overview_is_the_folder() {
        let location = |target| see(target).headers()[header::LOCATION].to_str().unwrap().to_owned();
        assert_eq!(
            (location(""), location("?done=x"), location("apps")),
            ("./".into(), "./?done=x".into(), "apps".into())
        );
    }
}
