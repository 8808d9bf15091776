//! Reads responses: success or the error that a response means.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use super::spec::{Api, Form};
use crate::{
    error::{self, CARD_CONTENT, Cause, ErrorKind, LarkError, Outcome},
    lenient::Fields,
};

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

    /// Reads the result of a call with `find`, or returns the error that the response means.
    ///
    /// A token in a response decides: no matter what else the response says, the code or refresh token that it was issued for is
    /// used up.
    pub(super) fn read<T>(
        &self,
        api: Api,
        body: &[u8],
        find: impl Fn(&Fields) -> Option<T>,
    ) -> Result<T, LarkError> {
        let Some(fields) = Fields::parse(body) else { return Err(self.without_code(api)) };
        let refusal = self.refusal(api, &fields);
        if (refusal.is_none() || api.form == Form::Token)
            && let Some(found) = find(&fields)
        {
            if let Some(error) = refusal {
                tracing::warn!(%error, "the response has a token and reports an error: the token is taken");
            }
            return Ok(found);
        }
        Err(refusal.unwrap_or_else(|| self.without_code(api)))
    }

    /// Returns the error that a response means. The most precise statement counts: an error code of the device flow, a
    /// known numeric code, an OAuth error code, an unknown numeric code, the HTTP status.
    fn refusal(&self, api: Api, fields: &Fields) -> Option<LarkError> {
        let oauth_error =
            fields.text("error").filter(|_| api.form != Form::Lark).map(|error| error.to_ascii_lowercase());
        let oauth_error = oauth_error.as_deref();
        let code = fields.number("code").filter(|code| *code != 0);
        // Lark says `access_denied` of a person who may not use the application, too.
        let is_user = code.and_then(error::known).is_some_and(|row| row.kind == ErrorKind::User);
        if let Some(error) =
            oauth_error.filter(|_| api.device && !is_user).and_then(|error| device_flow_error(api, error))
        {
            return Some(self.describe(error));
        }
        if let Some(row) = code.and_then(|code| card_problem(code, fields).or_else(|| error::known(code))) {
            let error = LarkError::new(api.name, row.kind.clone(), row.outcome, Cause::Code, row.message);
            return Some(self.with_code(error, row.code, &fields.value("error")));
        }
        if let Some(error) = oauth_error.and_then(|error| rfc6749_error(api, error)) {
            return Some(self.describe(LarkError { code, ..error }));
        }
        if let Some(code) = code {
            let outcome =
                if self.status.is_server_error() { Outcome::MaybeProcessed } else { Outcome::NotProcessed };
            let error =
                LarkError::new(api.name, ErrorKind::Unknown, outcome, Cause::Code, "Lark refused the call");
            return Some(self.with_code(error, code, &fields.value("error")));
        }
        (oauth_error.is_some() || !self.status.is_success()).then(|| self.without_code(api))
    }

    fn with_code(&self, mut error: LarkError, code: i64, details: &Value) -> LarkError {
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
        "expired_token" => (ErrorKind::DeviceCodeExpired, "the device code expired"),
        _ => return None,
    };
    Some(LarkError::new(api.name, kind, Outcome::NotProcessed, Cause::OAuth, message))
}

/// Returns the precise problem of a card. Lark writes its code into the text of the general one:
/// `Failed to create card content, ext=ErrCode: 200830; ErrMsg: …`.
fn card_problem(code: i64, fields: &Fields) -> Option<&'static error::KnownCode> {
    if code != CARD_CONTENT {
        return None;
    }
    let text = fields.text("msg")?;
    let (_, rest) = text.split_once("ErrCode:")?;
    let rest = rest.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    let row = error::known(digits.parse().ok()?)?;
    matches!(row.kind, ErrorKind::Message(_)).then_some(row)
}

/// Returns the meaning of an error code of RFC 6749 sections 4.1.2.1 and 5.2, or of RFC 6750 section 3.1. A known numeric
/// code is more precise and takes precedence.
fn rfc6749_error(api: Api, error: &str) -> Option<LarkError> {
    let (kind, outcome, message) = match error {
        "invalid_grant" | "expired_token" => {
            (ErrorKind::InvalidGrant, Outcome::NotProcessed, "the grant is invalid, expired or used")
        }
        "invalid_client" => {
            (ErrorKind::App, Outcome::NotProcessed, "the application's id or secret is wrong")
        }
        // Says nothing about other grants: the application itself is accepted.
        "unauthorized_client" => (
            ErrorKind::InvalidRequest,
            Outcome::NotProcessed,
            "the application may not use this grant type: enable it in the developer console",
        ),
        "access_denied" => (ErrorKind::AccessDenied, Outcome::NotProcessed, "access was denied"),
        "invalid_token" => {
            (ErrorKind::AccessTokenInvalid, Outcome::NotProcessed, "the access token is invalid")
        }
        "invalid_request"
        | "invalid_scope"
        | "unsupported_grant_type"
        | "unsupported_response_type"
        | "invalid_redirect_uri" => {
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
