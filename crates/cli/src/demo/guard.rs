//! Access to the page: browsers of this machine, and requests from the page itself.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// The page loads from this server only and cannot be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The names under which the server may be addressed: `127.0.0.1:<port>` and `localhost:<port>`.
#[derive(Clone)]
pub(crate) struct Hosts([String; 2]);

impl Hosts {
    /// Returns the names for this port.
    pub(crate) fn of(port: u16) -> Self {
        Self([format!("127.0.0.1:{port}"), format!("localhost:{port}")])
    }

    fn refusal(&self, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        // A foreign name that resolves here (DNS rebinding) shows in Host.
        let Some(host) = text(header::HOST).filter(|host| self.0.iter().any(|known| known == host)) else {
            return Some("open this page as http://127.0.0.1 with its port");
        };
        let from_page =
            || text(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")) == Some(host);
        (!method.is_safe() && !from_page()).then_some("only the page itself may ask for this")
    }
}

/// Refuses foreign requests and adds the security headers to every answer.
pub(crate) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let mut response = match hosts.refusal(request.method(), request.headers()) {
        Some(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(method: &Method, headers: &[(HeaderName, &'static str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        Hosts::of(80).refusal(method, &headers.collect()).is_none()
    }

    #[test]
    fn guard_refuses_foreign_host() {
        for (host, expected) in [
            ("127.0.0.1:80", true),
            ("localhost:80", true),
            ("127.0.0.1:81", false),
            ("rebound.example.com:80", false),
            ("", false),
        ] {
            assert_eq!(allowed(&Method::GET, &[(header::HOST, host)]), expected, "{host}");
        }
        assert!(!allowed(&Method::GET, &[]));
    }

    #[test]
    fn guard_refuses_foreign_origin_for_changes() {
        let host = (header::HOST, "localhost:80");
        for (origin, expected) in [
            ("http://localhost:80", true),
            ("http://127.0.0.1:80", false),
            ("https://localhost:80", false),
            ("http://elsewhere.example.com", false),
            ("null", false),
        ] {
            assert_eq!(
                allowed(&Method::POST, &[host.clone(), (header::ORIGIN, origin)]),
                expected,
                "{origin}"
            );
        }
        assert!(!allowed(&Method::POST, &[host]));
    }
}
