//! `Location` headers that stay right behind a reverse proxy which serves the gateway under a path of its own.

use axum::http::{HeaderMap, HeaderValue, header};

/// Turns a `Location` on this server into a reference relative to the requested path (RFC 9110, section 10.2.2). The client
/// resolves it against the address that it asked for, which still holds the path prefix that a proxy removed.
pub(crate) fn make_location_relative(path: &str, headers: &mut HeaderMap) {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    if let Some(location) =
        location.filter(|location| location.starts_with('/') && !location.starts_with("//"))
        && let Ok(relative) = HeaderValue::try_from(relative(path, location))
    {
        headers.insert(header::LOCATION, relative);
    }
}

/// Returns the reference that leads from one absolute path to another.
fn relative(from: &str, to: &str) -> String {
    let folders = |path: &str| path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let mut from = folders(from);
    // The last segment is no folder.
    from.pop();
    let to = folders(to);
    let common =
        from.iter().zip(&to[..to.len().saturating_sub(1)]).take_while(|(from, to)| from == to).count();
    let reference = format!("{}{}", "../".repeat(from.len() - common), to[common..].join("/"));
    // A colon in the first segment would make it a scheme.
    let first = reference.split('/').next().unwrap_or_default();
    if reference.is_empty() || first.contains(':') { format!("./{reference}") } else { reference }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_resolves_to_the_target_under_every_prefix() {
        for (from, to) in [
            ("/", "/docs"),
            ("/docs", "/docs/"),
            ("/v1/auth/sessions", "/v1/auth/sessions/7"),
            ("/v1/auth/sessions/", "/v1/auth/sessions/7"),
            ("/a/b/c", "/x/y?z=/1"),
            ("/a/b", "/a/b"),
            ("/a/b", "/a/"),
            ("/a", "/"),
            ("/a", "/b:c"),
            ("/a/b/", "/"),
        ] {
            let reference = relative(from, to);
            for prefix in ["", "/larkauth", "/one/two"] {
                let base = url::Url::parse(&format!("https://host{prefix}{from}")).unwrap();
                let target = base.join(&reference).unwrap();
                assert_eq!(target.as_str(), format!("https://host{prefix}{to}"), "{from} {to} {reference}");
            }
        }
    }
}
