//! Requests that change something come from a page of this console. A browser says where a request comes from, and no page
//! can make it say otherwise.

use axum::http::{HeaderMap, header};
use url::Url;

use crate::host::Reached;

/// Returns whether the browser sent this request for a page of the same origin. `Sec-Fetch-Site` decides where the browser
/// sends it; a browser that does not (it does so only over TLS and on this machine) names the origin.
pub(crate) fn is_same_origin(headers: &HeaderMap, reached: &Reached) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let Some(origin) = origin.and_then(|origin| Url::parse(origin).ok()) else { return false };
    let (Some(host), Some(asked)) = (origin.host_str(), reached.host.as_deref()) else { return false };
    let named = match origin.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let default_port = if origin.scheme() == "https" { ":443" } else { ":80" };
    asked.strip_suffix(default_port).unwrap_or(asked).eq_ignore_ascii_case(&named)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn is_same_origin_needs_a_header_that_says_so() {
        let is_same = |host: &str, sent: &[(&'static str, &'static str)]| {
            let sent = sent
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let reached = Reached { host: Some(host.to_owned()), ..Reached::default() };
            is_same_origin(&sent.collect(), &reached)
        };
        assert!(is_same("a.example", &[("sec-fetch-site", "same-origin")]));
        assert!(is_same("a.example", &[("origin", "https://a.example")]));
        assert!(is_same("a.example:443", &[("origin", "https://A.example")]));
        assert!(is_same("127.0.0.1:8080", &[("origin", "http://127.0.0.1:8080")]));
        assert!(is_same("[::1]:8080", &[("origin", "http://[::1]:8080")]));
        for sent in [
            &[][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            // What the browser says of the site outweighs a matching name.
            &[("sec-fetch-site", "cross-site"), ("origin", "https://a.example")],
            &[("origin", "null")],
            &[("origin", "https://b.example")],
            &[("origin", "https://a.example:8443")],
            &[("origin", "https://a.example.b.example")],
            &[("origin", "")],
        ] {
            assert!(!is_same("a.example", sent), "{sent:?}");
        }
    }
}
