//! Reads responses: success or the error that a response means.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::spec::Api;
use crate::error::{self, Cause, ErrorKind, LarkError, Outcome};

/// Longest wait taken from a response header, in seconds. A longer one is a mistake of the server.
const MAX_RETRY_AFTER: u64 = 3600;
/// Most missing scopes kept in an error.
const MAX_MISSING_SCOPES: usize = 20;
/// Longest log id or scope taken from a response, in bytes.
const MAX_PLAIN_BYTES: usize = 128;

/// The status and headers of a response.
pub(super) struct ResponseHead {
    status: StatusCode,
    retry_after: Option<Duration>,
    log_id: Option<Box<str>>,
}

/// The fields that all responses share.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    code: Option<i64>,
    /// Text in responses of OAuth endpoints, an object in others.
    error: Value,
}

impl ResponseHead {
    pub(super) fn of(response: &reqwest::Response) -> Self {
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let seconds =
            text("x-ogw-ratelimit-reset").or(text("retry-after")).and_then(|s| s.trim().parse().ok());
        Self {
            status: response.status(),
            retry_after: seconds.map(|s: u64| Duration::from_secs(s.min(MAX_RETRY_AFTER))),
            log_id: text("x-tt-logid").filter(|id| is_plain(id)).map(Into::into),
        }
    }

    /// Fails with the error that the response means, if it is not a success.
    pub(super) fn check(&self, api: Api, body: &[u8]) -> Result<(), LarkError> {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(body) else {
            return Err(self.without_code(api));
        };
        let oauth_error = envelope.error.as_str().filter(|_| api.oauth);
        if let Some(error) =
            oauth_error.filter(|_| api.device).and_then(|error| device_flow_error(api, error))
        {
            return Err(self.describe(error));
        }
        match envelope.code {
            Some(0) if self.status.is_success() && oauth_error.is_none() => Ok(()),
            None if self.status.is_success() && oauth_error.is_none() && api.oauth => Ok(()),
            None | Some(0) => Err(match oauth_error.and_then(|error| rfc6749_error(api, error)) {
                Some(error) => self.describe(error),
                None => self.without_code(api),
            }),
            Some(code) => Err(self.with_code(api, code, &envelope.error)),
        }
    }

    fn with_code(&self, api: Api, code: i64, details: &Value) -> LarkError {
        let mut error = match error::known(code) {
            Some(row) => LarkError::new(api.name, row.kind.clone(), row.outcome, Cause::Code, row.message),
            None => {
                let outcome = if self.status.is_server_error() {
                    Outcome::MaybeProcessed
                } else {
                    Outcome::NotProcessed
                };
                LarkError::new(api.name, ErrorKind::Unknown, outcome, Cause::Code, "Lark refused the call")
            }
        };
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            error.kind = ErrorKind::RateLimited;
        }
        if let ErrorKind::InsufficientScope { missing, .. } = &mut error.kind {
            *missing = missing_scopes(details);
        }
        error.code = Some(code);
        error.log_id = details["log_id"].as_str().filter(|id| is_plain(id)).map(Into::into);
        self.describe(error)
    }

    /// Returns the error of a response without a Lark code, which comes from a proxy or from a failing Lark.
    fn without_code(&self, api: Api) -> LarkError {
        let (kind, outcome, message) = match self.status.as_u16() {
            200..=299 => return self.invalid(api, "Lark's response is not of the documented form"),
            429 => (ErrorKind::RateLimited, Outcome::NotProcessed, "the rate limit is reached"),
            300..=399 => (
                ErrorKind::Unknown,
                Outcome::NotProcessed,
                "the call was redirected, and redirects are not followed: check the base URL and proxies",
            ),
            408 => (ErrorKind::Transient, Outcome::MaybeProcessed, "Lark timed out waiting for the request"),
            400..=499 => (
                ErrorKind::Unknown,
                Outcome::NotProcessed,
                "a server other than Lark's API refused the call: check the base URL and proxies",
            ),
            _ => (ErrorKind::Transient, Outcome::MaybeProcessed, "Lark or a proxy failed"),
        };
        self.describe(LarkError::new(api.name, kind, outcome, Cause::Status, message))
    }

    /// Returns the error of a response that is not of the documented form.
    pub(super) fn invalid(&self, api: Api, message: &'static str) -> LarkError {
        let (kind, outcome) = (ErrorKind::Transient, Outcome::MaybeProcessed);
        self.describe(LarkError::new(api.name, kind, outcome, Cause::InvalidAnswer, message))
    }

    /// Adds the status and headers to an error.
    pub(super) fn describe(&self, mut error: LarkError) -> LarkError {
        error.http_status = Some(self.status.as_u16());
        error.retry_after = self.retry_after;
        error.log_id = self.log_id.clone().or(error.log_id);
        error
    }
}

/// Returns the meaning of an error code of RFC 8628 section 3.5. The code counts more than the numeric code beside it.
fn device_flow_error(api: Api, error: &str) -> Option<LarkError> {
    let (kind, message) = match error {
        "authorization_pending" => {
            (ErrorKind::AuthorizationPending { slow_down: false }, "authorization is pending")
        }
        "slow_down" => (ErrorKind::AuthorizationPending { slow_down: true }, "polls are too frequent"),
        "access_denied" => (ErrorKind::AccessDenied, "access was denied"),
        "expired_token" => (ErrorKind::InvalidGrant, "the device code expired"),
        _ => return None,
    };
    Some(LarkError::new(api.name, kind, Outcome::NotProcessed, Cause::OAuth, message))
}

/// Returns the meaning of an error code of RFC 6749 section 5.2. A numeric code is more precise and takes precedence.
fn rfc6749_error(api: Api, error: &str) -> Option<LarkError> {
    let (kind, outcome, message) = match error {
        "invalid_grant" => {
            (ErrorKind::InvalidGrant, Outcome::NotProcessed, "the grant is invalid, expired or used")
        }
        "invalid_client" | "unauthorized_client" => {
            (ErrorKind::App, Outcome::NotProcessed, "the application may not make this request")
        }
        "invalid_request" | "invalid_scope" | "unsupported_grant_type" => {
            (ErrorKind::InvalidRequest, Outcome::NotProcessed, "the request is malformed")
        }
        "server_error" | "temporarily_unavailable" => {
            (ErrorKind::Transient, Outcome::MaybeProcessed, "Lark's token service failed")
        }
        _ => return None,
    };
    Some(LarkError::new(api.name, kind, outcome, Cause::OAuth, message))
}

fn missing_scopes(details: &Value) -> Vec<String> {
    let violations = details["permission_violations"].as_array().into_iter().flatten();
    let subjects = violations.filter_map(|violation| violation["subject"].as_str());
    subjects.filter(|subject| is_plain(subject)).take(MAX_MISSING_SCOPES).map(str::to_owned).collect()
}

/// Returns true for a text that is safe in a log line: short, with letters, digits and a few punctuation marks only.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_PLAIN_BYTES
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.' | b'-'))
}
