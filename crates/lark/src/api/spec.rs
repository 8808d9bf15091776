//! What distinguishes one call from another: name, form of the response, rate limit, deadline.

use std::time::Duration;

use reqwest::RequestBuilder;
use tokio::time::{Instant, timeout_at};

use super::rate_limiter::EndpointClass;
use crate::error::{Cause, ErrorKind, LarkError, Outcome};

/// A call with a deadline is not sent with less time left than this: a request that is cut off has an unknown outcome.
const MIN_CALL_TIME: Duration = Duration::from_secs(5);

/// The name of a call and the properties that its sending and its response depend on.
#[derive(Clone, Copy)]
pub(super) struct Api {
    pub(super) name: &'static str,
    /// The form of the response.
    pub(super) form: Form,
    /// The poll of the device flow, which has error codes of its own.
    pub(super) device: bool,
    /// The rate limit that the call counts against.
    pub(super) class: Option<EndpointClass>,
    /// The time at which the caller needs the result.
    deadline: Option<Instant>,
}

/// The form of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `code` and `data`.
    Lark,
    /// As above, or an error of RFC 6749 or RFC 8628 in `error`.
    OAuth,
    /// As above, and a success is recognised by its token.
    Token,
}

/// Whether a call may be sent again after a transient failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Sending the request twice has the same effect as sending it once.
    Safe,
    /// The request uses something up.
    Never,
}

impl Api {
    pub(super) const fn lark(name: &'static str) -> Self {
        Self { name, form: Form::Lark, device: false, class: None, deadline: None }
    }

    pub(super) const fn oauth(name: &'static str) -> Self {
        Self { form: Form::OAuth, ..Self::lark(name) }
    }

    pub(super) const fn token(name: &'static str) -> Self {
        Self { form: Form::Token, ..Self::lark(name) }
    }

    pub(super) const fn device_poll(name: &'static str) -> Self {
        Self { device: true, ..Self::token(name) }
    }

    pub(super) const fn limited_as(self, class: EndpointClass) -> Self {
        Self { class: Some(class), ..self }
    }

    pub(super) const fn with_deadline(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Runs work that precedes the call, and fails with [`ErrorKind::Transient`] when the work leaves less than
    /// [`MIN_CALL_TIME`] for the call.
    pub(super) async fn prepare<T>(
        self,
        work: impl Future<Output = Result<T, LarkError>>,
    ) -> Result<T, LarkError> {
        let Some(deadline) = self.deadline else { return work.await };
        let start_by = deadline - MIN_CALL_TIME;
        match timeout_at(start_by, work).await {
            Ok(done) if done.is_err() || Instant::now() <= start_by => done,
            _ => {
                let (kind, outcome) = (ErrorKind::Transient, Outcome::NotProcessed);
                let message = "too little time was left to send the request";
                Err(LarkError::new(self.name, kind, outcome, Cause::NotSent, message))
            }
        }
    }

    /// Limits the request to the time that is left until the deadline.
    pub(super) fn with_timeout(self, request: RequestBuilder) -> RequestBuilder {
        match self.deadline {
            Some(deadline) => request.timeout(deadline.saturating_duration_since(Instant::now())),
            None => request,
        }
    }
}
