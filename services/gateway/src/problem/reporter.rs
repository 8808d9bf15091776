use std::sync::atomic::{AtomicU64, Ordering};

use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use larkauth_contracts::problem::ProblemCode;

use super::{ApiError, Inner};

/// Most lines of one kind in a second.
const LINES_PER_SECOND: std::num::NonZeroU32 = std::num::NonZeroU32::new(20).unwrap();

/// Who reaches a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Services with an API key; browsers and Lark too, while there is one listener.
    Callers,
    /// Browsers and Lark.
    Everyone,
}

/// Completes and logs the error answers of one listener, each once. Of a flood it logs some and counts the others.
#[derive(Debug)]
pub(crate) struct ProblemReporter {
    audience: Audience,
    service: LogThrottle<DefaultClock>,
    caller: LogThrottle<DefaultClock>,
}

impl ProblemReporter {
    pub(crate) fn new(audience: Audience) -> Self {
        Self { audience, service: LogThrottle::default(), caller: LogThrottle::default() }
    }

    pub(crate) fn finish(&self, mut response: Response, request_id: &str) -> Response {
        let Some(ApiError(mut inner)) = response.extensions_mut().remove::<ApiError>() else {
            return response;
        };
        self.log(&inner);
        inner.problem.request_id = Some(request_id.to_owned());
        if self.audience == Audience::Everyone {
            // RFC 9457: no page about it. The one at /docs is on the other listener.
            "about:blank".clone_into(&mut inner.problem.r#type);
        }
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, Json(&inner.problem).into_response().into_body())
    }

    fn log(&self, inner: &Inner) {
        let (problem, cause) = (&inner.problem, inner.cause.as_deref());
        let (code, status) = (problem.code.as_str(), problem.status);
        let fault = Fault::of(problem.code);
        let throttle = match fault {
            Fault::Service => &self.service,
            Fault::Caller => &self.caller,
            Fault::None => return tracing::debug!(code, status, "gateway.http.problem"),
        };
        let Some(suppressed) = throttle.take() else { return };
        let suppressed = (suppressed > 0).then_some(suppressed);
        if fault == Fault::Service {
            tracing::error!(code, status, cause, suppressed, "gateway.http.problem");
        } else {
            tracing::warn!(code, status, cause, suppressed, "gateway.http.problem");
        }
    }
}

/// The side whose fault an error answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Service,
    Caller,
    None,
}

impl Fault {
    fn of(code: ProblemCode) -> Self {
        match code {
            // The ordinary answer about a person who was not asked yet.
            ProblemCode::AuthenticationRequired => Self::None,
            code if code.status() >= 500 => Self::Service,
            _ => Self::Caller,
        }
    }
}

/// Bounds the log lines of one kind.
#[derive(Debug)]
struct LogThrottle<C: Clock> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    suppressed: AtomicU64,
}

impl<C: Clock> LogThrottle<C> {
    fn new(clock: C) -> Self {
        let quota = Quota::per_second(LINES_PER_SECOND);
        Self { limiter: RateLimiter::direct_with_clock(quota, clock), suppressed: AtomicU64::new(0) }
    }

    /// Returns the number of lines suppressed since the last one, or `None` when this one is to be suppressed too.
    fn take(&self) -> Option<u64> {
        if self.limiter.check().is_err() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

impl Default for LogThrottle<DefaultClock> {
    fn default() -> Self {
        Self::new(DefaultClock::default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn fault_of_code_is_none_caller_or_service() {
        assert_eq!(Fault::of(ProblemCode::AuthenticationRequired), Fault::None);
        assert_eq!(Fault::of(ProblemCode::AppNotFound), Fault::Caller);
        assert_eq!(Fault::of(ProblemCode::RequestTimeout), Fault::Caller);
        assert_eq!(Fault::of(ProblemCode::Unavailable), Fault::Service);
    }

    #[test]
    fn log_throttle_flood_is_counted_and_told_with_next_line() {
        let clock = FakeRelativeClock::default();
        let throttle = LogThrottle::new(clock.clone());
        let written = (0..50).filter(|_| throttle.take().is_some()).count();
        assert_eq!(written, 20);
        clock.advance(Duration::from_secs(1));
        assert_eq!(throttle.take(), Some(30));
        assert_eq!(throttle.take(), Some(0));
    }
}
