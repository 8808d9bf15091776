//! The phone's browser on the page: the real consent page and the real result page, in a frame.
//!
//! Both pages forbid to be framed, or would not know who frames them, so they are passed on by this server: unchanged
//! but for the headers that say who may frame them. Nothing else can be reached this way. No script runs on either,
//! which their content security policies see to; a sandboxed frame would also keep the result page from looking again.

use axum::{
    body::Bytes,
    extract::{OriginalUri, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use reqwest::RequestBuilder;

use super::state::DemoState;

/// Path of the consent page, here and at Lark.
pub(crate) const CONSENT: &str = "/open-apis/authen/v1/authorize";
/// Path of the redirect URI, here and at the gateway.
pub(crate) const RESULT: &str = "/oauth/callback";

/// Cookie with the page's language, set by the page.
const LANGUAGE: &str = "larkauth_demo_language=";
/// Content security policy for the simulator's pages, which have none.
const CONSENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

/// Passes on the simulator's consent page and the person's decision.
pub(crate) async fn consent(
    State(demo): State<DemoState>,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let url = format!("{}{CONSENT}?{}", demo.sim.base_url(), uri.query().unwrap_or_default());
    let mut request = demo.browser.request(method.clone(), url);
    if method == Method::POST {
        let decision = if body.ends_with(b"decision=agree") { "agree" } else { "decline" };
        demo.feed.action(decision, []);
        request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
    } else {
        demo.feed.lark("lark.consent.shown", []);
    }
    let mut response = pass_on(&demo, request, &headers).await;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONSENT_POLICY));
    response
}

/// Passes on the gateway's result page.
pub(crate) async fn result(
    State(demo): State<DemoState>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Response {
    let url = format!("{}{RESULT}?{}", demo.pages.reached, uri.query().unwrap_or_default());
    let mut request = demo.browser.get(url);
    if let Some(cookies) = headers.get(header::COOKIE) {
        request = request.header(header::COOKIE, cookies);
    }
    pass_on(&demo, request, &headers).await
}

async fn pass_on(demo: &DemoState, request: RequestBuilder, headers: &HeaderMap) -> Response {
    let request = request.header(header::ACCEPT_LANGUAGE, language(headers));
    let Ok(answer) = request.send().await else { return unreachable_page(headers) };
    let (status, given) = (answer.status(), answer.headers().clone());
    let is_page =
        given.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !is_page && !status.is_redirection() {
        return unreachable_page(headers);
    }
    let Ok(body) = answer.bytes().await else { return unreachable_page(headers) };
    let mut response = (status, body).into_response();
    for name in [header::CONTENT_TYPE, header::SET_COOKIE, header::CONTENT_SECURITY_POLICY, header::LOCATION]
    {
        if let Some(value) = given.get(&name) {
            response.headers_mut().insert(name.clone(), here(demo, &name, value));
        }
    }
    response
}

/// Returns the header as rewritten for this server.
fn here(demo: &DemoState, name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    let Ok(text) = value.to_str() else { return value.clone() };
    let text = if name == header::LOCATION {
        text.strip_prefix(&demo.pages.named).unwrap_or(text).to_owned()
    } else if name == header::CONTENT_SECURITY_POLICY {
        text.replace("frame-ancestors 'none'", "frame-ancestors 'self'")
    } else {
        return value.clone();
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| value.clone())
}

/// Returns the page's language, or else the browser's.
fn language(headers: &HeaderMap) -> HeaderValue {
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match cookies.split("; ").find_map(|cookie| cookie.strip_prefix(LANGUAGE)) {
        Some("zh") => HeaderValue::from_static("zh-CN"),
        Some("en") => HeaderValue::from_static("en-US"),
        _ => headers.get(header::ACCEPT_LANGUAGE).cloned().unwrap_or(HeaderValue::from_static("en-US")),
    }
}

/// Returns the error page that a browser shows for an unreachable site.
fn unreachable_page(headers: &HeaderMap) -> Response {
    let page = if language(headers).as_bytes().starts_with(b"zh") {
        include_str!("../../assets/demo/unreachable.zh.html")
    } else {
        include_str!("../../assets/demo/unreachable.en.html")
    };
    let policy = [(header::CONTENT_SECURITY_POLICY, CONSENT_POLICY)];
    (StatusCode::BAD_GATEWAY, policy, Html(page)).into_response()
}
