//! One HTTP call: sent, watched, understood; and repeated where that is safe.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use larkauth_models::{Entropy, OsEntropy, SecretString};
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::{LarkClient, rate_limiter::Budget};
use crate::{
    error::{self, Cause, Fault, LarkError, Outcome},
    http::{BodyError, read_body},
};

/// How often a safe call is repeated.
const MAX_REPEATS: u32 = 2;
/// The first pause before a repeat; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A longer pause is the caller's to make.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// A call that is needed by a certain time is not begun with less than this left.
const SHORTEST_CALL: Duration = Duration::from_secs(5);
/// A longer wait than this in a header is nonsense.
const LONGEST_RETRY_AFTER: u64 = 3600;

/// The name of a call and how it answers.
#[derive(Clone, Copy)]
pub(super) struct Api {
    pub(super) name: &'static str,
    /// An OAuth endpoint: `code` may be missing on success, and `error` is one of RFC 6749's or RFC 8628's.
    oauth: bool,
    /// The poll of the device flow, whose answers have errors of their own.
    device: bool,
    /// Which of Lark's budgets it is paid from.
    pub(super) budget: Option<Budget>,
    /// When its caller needs to know how it went.
    until: Option<Instant>,
}

impl Api {
    pub(super) const fn lark(name: &'static str) -> Self {
        Self { name, oauth: false, device: false, budget: None, until: None }
    }
    pub(super) const fn oauth(name: &'static str) -> Self {
        Self { name, oauth: true, device: false, budget: None, until: None }
    }
    pub(super) const fn device_poll(name: &'static str) -> Self {
        Self { device: true, ..Self::oauth(name) }
    }
    pub(super) const fn paid_from(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }
    pub(super) const fn until(self, until: Instant) -> Self {
        Self { until: Some(until), ..self }
    }

    /// Whatever comes before the call has to leave enough time for it.
    pub(super) async fn prepare<T>(
        self,
        work: impl Future<Output = Result<T, LarkError>>,
    ) -> Result<T, LarkError> {
        let Some(until) = self.until else { return work.await };
        let begin_by = until - SHORTEST_CALL;
        match timeout_at(begin_by, work).await {
            Ok(done) if done.is_err() || Instant::now() <= begin_by => done,
            _ => {
                let (fault, outcome) = (Fault::Transient, Outcome::NotProcessed);
                let message = "too little time was left to begin it";
                Err(LarkError::new(self.name, fault, outcome, Cause::NotSent, message))
            }
        }
    }

    /// The request, which is cut off when its time is over.
    fn in_time(self, request: RequestBuilder) -> RequestBuilder {
        match self.until {
            Some(until) => request.timeout(until.saturating_duration_since(Instant::now())),
            None => request,
        }
    }
}

/// Whether a call may be sent again after a failure that can pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Sent twice it does no more than sent once.
    Safe,
    /// It uses something up.
    Never,
}

impl LarkClient {
    /// Sends the request of `build`, repeats it if allowed, and reads the answer with `read`, which gives `None` for
    /// an answer that is not of the documented form.
    pub(super) async fn call<T>(
        &self,
        api: Api,
        repeat: Repeat,
        build: impl Fn() -> RequestBuilder,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, LarkError> {
        let mut repeats = 0;
        loop {
            let error = match self.attempt(api, build(), &read).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = match pause_before_repeat(&error, repeats) {
                Some(pause) if repeat == Repeat::Safe && repeats < MAX_REPEATS => pause,
                _ => return Err(error),
            };
            tracing::debug!(%error, ?pause, "repeating a call");
            tokio::time::sleep(pause).await;
            repeats += 1;
        }
    }

    /// Like [`call`](Self::call), with the tenant access token, which is renewed once if Lark no longer accepts it.
    pub(super) async fn call_as_tenant<T>(
        &self,
        api: Api,
        repeat: Repeat,
        build: impl Fn(&SecretString) -> RequestBuilder,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, LarkError> {
        let token = self.tenant_access_token().await?;
        match self.call(api, repeat, || build(&token), &read).await {
            // Refused at the door, so that this repeat is safe for every call.
            Err(error) if refuses_own_token(&error) => {
                self.inner.tenant_token.forget(&token);
                let token = self.tenant_access_token().await?;
                self.call(api, repeat, || build(&token), &read).await.map_err(blame_own_token)
            }
            result => result,
        }
    }

    async fn attempt<T>(
        &self,
        api: Api,
        request: RequestBuilder,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, LarkError> {
        let span = tracing::info_span!(
            "lark.api",
            otel.name = format!("lark.api.{}", api.name),
            otel.kind = "client",
            app_id = %self.inner.app_id,
            outcome = tracing::field::Empty,
        );
        let started = Instant::now();
        let mut headers = HeaderMap::new();
        span.in_scope(|| self.inner.observer.inject_headers(&mut headers));
        let result = async {
            api.prepare(self.inner.pace.wait(api)).await?;
            let (answer, body) = exchange(api, api.in_time(request).headers(headers)).await?;
            answer.check(api, &body)?;
            read(&body).ok_or_else(|| answer.invalid(api, "Lark's answer is not of the documented form"))
        }
        .instrument(span.clone())
        .await;
        let label = result.as_ref().map_or_else(LarkError::label, |_| "ok");
        span.record("outcome", label);
        self.inner.observer.called(&self.inner.app_id, api.name, label, started.elapsed());
        result
    }
}

/// Lark does not accept the application's own token, and did nothing else.
pub(super) fn refuses_own_token(error: &LarkError) -> bool {
    matches!(error.code, Some(99991663 | 99991664 | 99991668 | 99991677 | 20014))
}

/// The caller's tokens have nothing to do with it, whatever the code says elsewhere.
pub(super) fn blame_own_token(error: LarkError) -> LarkError {
    if !refuses_own_token(&error) {
        return error;
    }
    let message = "the application's own token is no longer accepted";
    LarkError { fault: Fault::Transient, message, ..error }
}

/// How long to wait before a failed call may be repeated; nothing if repeating at once does not help.
fn pause_before_repeat(error: &LarkError, repeats: u32) -> Option<Duration> {
    let passes = match error.fault {
        // After a timeout the caller's patience is used up; a renewed own token is `call_as_tenant`'s matter.
        Fault::Transient => error.cause != Cause::Timeout && !refuses_own_token(error),
        Fault::RateLimited => true,
        _ => false,
    };
    let backoff = OsEntropy.jitter(FIRST_PAUSE * 2_u32.pow(repeats), 0.5);
    let pause = error.retry_after.unwrap_or(backoff);
    (passes && pause <= LONGEST_PAUSE).then_some(pause)
}

async fn exchange(api: Api, request: RequestBuilder) -> Result<(AnswerHead, Bytes), LarkError> {
    let response = request.send().await.map_err(|error| transport_error(api, error))?;
    let head = AnswerHead::of(&response);
    match read_body(response).await {
        Ok(body) => Ok((head, body)),
        Err(BodyError::TooLong) => Err(head.invalid(api, "Lark's answer is too long")),
        Err(BodyError::Http(error)) => Err(head.describe(transport_error(api, error))),
    }
}

fn transport_error(api: Api, error: reqwest::Error) -> LarkError {
    let error = error.without_url();
    let (fault, outcome, cause, message) = if error.is_builder() {
        (Fault::Ours, Outcome::NotProcessed, Cause::NotSent, "the request cannot be built")
    } else if error.is_connect() {
        (Fault::Transient, Outcome::NotProcessed, Cause::Connect, "Lark cannot be reached")
    } else if error.is_timeout() {
        (Fault::Transient, Outcome::MaybeProcessed, Cause::Timeout, "Lark did not answer in time")
    } else {
        (Fault::Transient, Outcome::MaybeProcessed, Cause::Cut, "the connection broke before the answer came")
    };
    tracing::debug!(api = api.name, error = ?error, message);
    LarkError::new(api.name, fault, outcome, cause, message)
}

/// What precedes an answer's body.
struct AnswerHead {
    status: StatusCode,
    retry_after: Option<Duration>,
    log_id: Option<Box<str>>,
}

/// What all answers share.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    code: Option<i64>,
    /// Text in OAuth answers, an object in others.
    error: Value,
}

impl AnswerHead {
    fn of(response: &reqwest::Response) -> Self {
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let seconds =
            text("x-ogw-ratelimit-reset").or(text("retry-after")).and_then(|s| s.trim().parse().ok());
        Self {
            status: response.status(),
            retry_after: seconds.map(|s: u64| Duration::from_secs(s.min(LONGEST_RETRY_AFTER))),
            log_id: text("x-tt-logid").filter(|id| is_plain(id)).map(Into::into),
        }
    }

    /// Whether the answer says that all went well.
    fn check(&self, api: Api, body: &[u8]) -> Result<(), LarkError> {
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
            Some(row) => LarkError::new(api.name, row.fault.clone(), row.outcome, Cause::Code, row.message),
            None => {
                let outcome = if self.status.is_server_error() {
                    Outcome::MaybeProcessed
                } else {
                    Outcome::NotProcessed
                };
                LarkError::new(api.name, Fault::Unknown, outcome, Cause::Code, "Lark refused the call")
            }
        };
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            error.fault = Fault::RateLimited;
        }
        if let Fault::Scope { missing, .. } = &mut error.fault {
            *missing = missing_scopes(details);
        }
        error.code = Some(code);
        error.log_id = details["log_id"].as_str().filter(|id| is_plain(id)).map(Into::into);
        self.describe(error)
    }

    /// An answer without a Lark code: from something in between, or from a Lark that is not well.
    fn without_code(&self, api: Api) -> LarkError {
        let (fault, outcome, message) = match self.status.as_u16() {
            200..=299 => return self.invalid(api, "Lark's answer is not of the documented form"),
            429 => (Fault::RateLimited, Outcome::NotProcessed, "too many calls"),
            300..=399 => (
                Fault::Unknown,
                Outcome::NotProcessed,
                "redirected, which is not followed: check the base URL and proxies",
            ),
            408 => (Fault::Transient, Outcome::MaybeProcessed, "Lark gave up waiting for the request"),
            400..=499 => (
                Fault::Unknown,
                Outcome::NotProcessed,
                "refused by something that is not Lark's API: check the base URL and proxies",
            ),
            _ => (Fault::Transient, Outcome::MaybeProcessed, "Lark or something before it failed"),
        };
        self.describe(LarkError::new(api.name, fault, outcome, Cause::Status, message))
    }

    fn invalid(&self, api: Api, message: &'static str) -> LarkError {
        let (fault, outcome) = (Fault::Transient, Outcome::MaybeProcessed);
        self.describe(LarkError::new(api.name, fault, outcome, Cause::InvalidAnswer, message))
    }

    fn describe(&self, mut error: LarkError) -> LarkError {
        error.http_status = Some(self.status.as_u16());
        error.retry_after = self.retry_after;
        error.log_id = self.log_id.clone().or(error.log_id);
        error
    }
}

/// RFC 8628 section 3.5. Understood whatever the numeric code beside it.
fn device_flow_error(api: Api, error: &str) -> Option<LarkError> {
    let (fault, message) = match error {
        "authorization_pending" => (Fault::Pending { slow_down: false }, "authorization is pending"),
        "slow_down" => (Fault::Pending { slow_down: true }, "polled too fast"),
        "access_denied" => (Fault::Denied, "access was denied"),
        "expired_token" => (Fault::Code, "the device code expired"),
        _ => return None,
    };
    Some(LarkError::new(api.name, fault, Outcome::NotProcessed, Cause::OAuth, message))
}

/// RFC 6749 section 5.2. Asked only where there is no numeric code, which says more.
fn rfc6749_error(api: Api, error: &str) -> Option<LarkError> {
    let (fault, outcome, message) = match error {
        "invalid_grant" => (Fault::Code, Outcome::NotProcessed, "the grant is invalid, expired or used"),
        "invalid_client" | "unauthorized_client" => {
            (Fault::App, Outcome::NotProcessed, "the application is not allowed to do this")
        }
        "invalid_request" | "invalid_scope" | "unsupported_grant_type" => {
            (Fault::Ours, Outcome::NotProcessed, "the request is malformed")
        }
        "server_error" | "temporarily_unavailable" => {
            (Fault::Transient, Outcome::MaybeProcessed, "Lark's token service failed")
        }
        _ => return None,
    };
    Some(LarkError::new(api.name, fault, outcome, Cause::OAuth, message))
}

fn missing_scopes(details: &Value) -> Vec<String> {
    let violations = details["permission_violations"].as_array().into_iter().flatten();
    let subjects = violations.filter_map(|violation| violation["subject"].as_str());
    subjects.filter(|subject| is_plain(subject)).take(20).map(str::to_owned).collect()
}

/// Fit for a log line: short, and nothing but letters, digits and a few marks.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.' | b'-'))
}
