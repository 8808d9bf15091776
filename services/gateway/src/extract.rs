//! Extractors of what a caller sends. A refusal names the place and what was expected, never what was there.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use larkauth_contracts::problem::ProblemCode;
use larkauth_models::OpenId;
use serde::de::DeserializeOwned;

use crate::{
    problem::{ApiError, without_content},
    strict_json::Strict,
};

/// A JSON body.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                ProblemCode::UnsupportedMediaType,
                "Send `Content-Type: application/json`",
            ));
        }
        // The limits of the router have read the whole body already.
        let body = Bytes::from_request(request, state).await.map_err(ApiError::internal)?;
        parse(&body).map(Self)
    }
}

/// `application/json` or `application/…+json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    subtype == "json" || subtype.ends_with("+json")
}

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::invalid("the body must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let place = |error: &serde_json::Error| format!("line {}, column {}", error.line(), error.column());
    let value = serde_path_to_error::deserialize(Strict(&mut json)).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => {
                let expected = without_content(&error.to_string());
                ApiError::invalid(match field.as_str() {
                    "." => format!("{expected} ({})", place(&error)),
                    field => format!("{}: {expected} ({})", bounded(field), place(&error)),
                })
            }
            _ => ApiError::invalid(format!("the body is not well-formed JSON ({})", place(&error))),
        }
    })?;
    json.end()
        .map_err(|error| ApiError::invalid(format!("something follows the JSON body ({})", place(&error))))?;
    Ok(value)
}

/// A field's name as one short line: it may be the caller's invention.
fn bounded(field: &str) -> String {
    field.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Refuses an open id that Lark cannot have issued, before it is looked up.
pub(crate) fn issued(open_id: OpenId) -> Result<OpenId, ApiError> {
    if open_id.as_str().starts_with("ou_") {
        Ok(open_id)
    } else {
        Err(ApiError::invalid("open_id: expected `ou_`…, as Lark issues it to this application"))
    }
}

/// What the path's pattern leaves open.
pub(crate) struct PathOf<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::invalid("the path is not well-formed")),
        }
    }
}

/// The query.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let text = rejection.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                // `field: what is wrong`
                let (field, wrong) = text.split_once(": ").unwrap_or(("", text));
                let known = field.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                    && (1..=32).contains(&field.len());
                let expected = without_content(wrong);
                Err(ApiError::invalid(if known {
                    format!("{field}: {expected}")
                } else {
                    format!("query: {expected}")
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use larkauth_contracts::rest::CreateSession;

    use super::*;

    #[test]
    fn parse_wrong_body_names_place_without_content() {
        let refusal = |body: &str| {
            let error = parse::<CreateSession>(body.as_bytes()).map(|_| ()).unwrap_err();
            format!("{error:?}")
        };
        for (body, expected) in [
            (r#"{"app_id": s3cret"#, "not well-formed JSON (line 1, column 12)"),
            (r#"{"app_id": "s3cret"}"#, "app_id: not a valid app id: expected `cli_`"),
            (r#"{"app_id":"cli_0123456789abcdef","s3crets":1}"#, "no such field; expected one of `app_id`"),
            (
                r#"{"app_id":"cli_0123456789abcdef","card":{"custom_message":7}}"#,
                "card.custom_message: expected a string",
            ),
            (r#"{"app_id":"cli_0123456789abcdef"} s3cret"#, "something follows"),
            (
                r#"{"app_id":"cli_0123456789abcdef","app_id":"s3cret"}"#,
                "field `app_id` is given twice (line 1, column 41)",
            ),
            ("{}", "field `app_id` is missing"),
            ("[]", "must be a JSON object"),
            ("", "must be a JSON object"),
        ] {
            let refusal = refusal(body);
            assert!(refusal.contains(expected), "{refusal}");
            assert!(!refusal.contains("s3cret\""), "{refusal}");
        }
    }

    #[test]
    fn is_json_media_types_are_recognised() {
        let json = |value: &'static str| {
            is_json(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                axum::http::HeaderValue::from_static(value),
            )]))
        };
        assert!(
            json("application/json; charset=utf-8")
                && json("Application/JSON")
                && json("application/problem+json")
        );
        assert!(!json("text/plain") && !json("text/json+x") && !json("") && !is_json(&HeaderMap::new()));
    }
}
