//! `/console/language`: the same page in the other language. Changes nothing but how this browser is answered.

use std::sync::Arc;

use axum::{Extension, extract::RawQuery, http::header, response::Response};

use crate::{cookie, lang::Lang, target, visit::Fields, visitor::Visitor};

pub(crate) async fn switch(
    Extension(visitor): Extension<Arc<Visitor>>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let mut response = target::see(query.get("back").and_then(target::checked).unwrap_or_default());
    if let Some(lang) = query.get("to").and_then(Lang::from_tag) {
        let cookie = cookie::keep_language(lang.tag(), visitor.reached.is_tls);
        response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    }
    response
}
