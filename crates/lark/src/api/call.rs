//! Sends one HTTP call, reports it to the observer, and repeats it where that is safe.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use larkauth_models::{Backoff, OsEntropy};
use reqwest::RequestBuilder;
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    client::{Admission, LarkClient},
    response::ResponseHead,
    spec::{Api, Repeat},
};
use crate::{
    error::{Cause, ErrorKind, LarkError, Outcome},
    http::{BodyError, read_body},
    lenient::Fields,
};

/// Number of times a safe call is repeated.
const MAX_REPEATS: u32 = 2;
/// First wait before a repeat.
const BACKOFF_BASE: Duration = Duration::from_millis(200);
/// Share of a wait by which the wait is lengthened or shortened at random.
const BACKOFF_JITTER: f64 = 0.5;
/// Longest wait before a repeat. A call that has to wait longer fails, so that the caller can do other work meanwhile.
const MAX_REPEAT_WAIT: Duration = Duration::from_secs(3);
/// Longest wait for the rate limiter. A call that has to wait longer fails, for the same reason.
const MAX_RATE_LIMIT_WAIT: Duration = Duration::from_secs(5);
/// Pause of an application's calls when Lark refuses one for its rate without saying how long.
const DEFAULT_HOLD: Duration = Duration::from_secs(1);

impl LarkClient {
    /// Sends the request of `build`, repeats it if allowed, and reads the response with `read`, which returns `None`
    /// for a response without the result.
    pub(super) async fn call<T>(
        &self,
        api: Api,
        repeat: Repeat,
        build: impl Fn() -> RequestBuilder,
        read: impl Fn(&Fields) -> Option<T>,
    ) -> Result<T, LarkError> {
        let mut backoff = Backoff::new(BACKOFF_BASE, MAX_REPEAT_WAIT, BACKOFF_JITTER);
        let mut repeats = 0;
        loop {
            let error = match self.attempt(api, build(), &read).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let wait = error.retry_after.unwrap_or_else(|| backoff.next(&OsEntropy));
            let may_repeat = repeat == Repeat::Safe && repeats < MAX_REPEATS;
            if !may_repeat || !is_repeatable(&error) || wait > MAX_REPEAT_WAIT {
                return Err(error);
            }
            tracing::debug!(%error, ?wait, "repeating a call");
            tokio::time::sleep(wait).await;
            repeats += 1;
        }
    }

    async fn attempt<T>(
        &self,
        api: Api,
        request: RequestBuilder,
        read: impl Fn(&Fields) -> Option<T>,
    ) -> Result<T, LarkError> {
        let options = self.options();
        let span = tracing::info_span!(
            "lark.api",
            otel.name = format!("lark.api.{}", api.name),
            otel.kind = "client",
            app_id = %options.app_id,
            outcome = tracing::field::Empty,
        );
        let started = Instant::now();
        let mut headers = HeaderMap::new();
        span.in_scope(|| options.observer.inject_headers(&mut headers));
        let result = async {
            api.prepare(self.acquire(api)).await?;
            let (head, body) = exchange(api, api.with_timeout(request).headers(headers)).await?;
            head.read(api, &body, read)
        }
        .instrument(span.clone())
        .await;
        if let (Some(class), Err(error)) = (api.class, &result)
            && error.is_app_limit()
        {
            let wait = error.retry_after.unwrap_or(DEFAULT_HOLD);
            options.rate_limiter.hold(&options.app_id, class, wait).await;
        }
        let label = result.as_ref().map_or_else(LarkError::label, |_| "ok");
        span.record("outcome", label);
        options.observer.called(&options.app_id, api.name, label, started.elapsed());
        result
    }

    /// Waits until the rate limiter has room for the call.
    async fn acquire(&self, api: Api) -> Result<(), LarkError> {
        let (Some(class), Admission::Lane(lane)) = (api.class, self.admission) else { return Ok(()) };
        let options = self.options();
        let deadline = Instant::now() + MAX_RATE_LIMIT_WAIT;
        options.rate_limiter.acquire(&options.app_id, class, lane, deadline).await.map_err(|exceeded| {
            let (kind, outcome) = (ErrorKind::RateLimited, Outcome::NotProcessed);
            let message = "the calls that Lark allows are used up";
            let error = LarkError::new(api.name, kind, outcome, Cause::NotSent, message);
            LarkError { retry_after: Some(exceeded.retry_after), ..error }
        })
    }
}

/// Returns whether a failed call may succeed when it is repeated soon.
fn is_repeatable(error: &LarkError) -> bool {
    match error.kind {
        // After a timeout the caller has waited long enough. A refused token needs renewal, not a repeat.
        ErrorKind::Transient => error.cause != Cause::Timeout && !error.refuses_app_token(),
        ErrorKind::RateLimited => true,
        _ => false,
    }
}

async fn exchange(api: Api, request: RequestBuilder) -> Result<(ResponseHead, Bytes), LarkError> {
    let response = request.send().await.map_err(|error| transport_error(api, error))?;
    let head = ResponseHead::of(&response);
    match read_body(response).await {
        Ok(body) => Ok((head, body)),
        Err(BodyError::TooLong) => Err(head.invalid(api, "Lark's response is too long")),
        Err(BodyError::Http(error)) => Err(head.describe(transport_error(api, error))),
    }
}

fn transport_error(api: Api, error: reqwest::Error) -> LarkError {
    let error = error.without_url();
    let (kind, outcome, cause, message) = if error.is_builder() {
        (ErrorKind::InvalidRequest, Outcome::NotProcessed, Cause::NotSent, "the request cannot be built")
    } else if error.is_connect() {
        (ErrorKind::Transient, Outcome::NotProcessed, Cause::Connect, "Lark cannot be reached")
    } else if error.is_timeout() {
        (ErrorKind::Transient, Outcome::MaybeProcessed, Cause::Timeout, "Lark did not answer in time")
    } else {
        let message = "the connection broke before the response was complete";
        (ErrorKind::Transient, Outcome::MaybeProcessed, Cause::Cut, message)
    };
    tracing::debug!(api = api.name, error = ?error, message);
    LarkError::new(api.name, kind, outcome, cause, message)
}
