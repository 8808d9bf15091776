//! Keeps calls below Lark's limits: 50 calls a second and 1000 a minute, per application and class of endpoint.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{Quota, clock::Clock, middleware::NoOpMiddleware, state::keyed::HashMapStateStore};
use larkauth_models::AppId;
use tokio::time::Instant;

/// Endpoints that share one of Lark's rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointClass {
    /// The token endpoint, for every grant type.
    Token,
    /// Sending messages.
    MessageSend,
    /// Changing messages.
    MessageUpdate,
    /// The owner of a user access token.
    UserInfo,
    /// Contacts.
    Contacts,
}

impl EndpointClass {
    /// Returns the name of the class, fit for a key of a shared store or for a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::MessageSend => "message_send",
            Self::MessageUpdate => "message_update",
            Self::UserInfo => "user_info",
            Self::Contacts => "contacts",
        }
    }
}

/// The rate limit leaves no room for a call before the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit is used up for another {} ms", retry_after.as_millis())]
pub struct RateLimitExceeded {
    /// Shortest wait before the limiter has room.
    pub retry_after: Duration,
}

/// Limits the rate of calls to Lark.
///
/// [`LocalRateLimiter`] counts the calls of one process. An implementation that counts the calls of several processes
/// decides by itself what happens while its shared state cannot be reached; it must return by the deadline in any case.
#[async_trait::async_trait]
pub trait RateLimiter: Send + Sync + 'static {
    /// Waits until the limit has room for one more call, and counts the call.
    ///
    /// # Errors
    /// [`RateLimitExceeded`], at once and without counting the call, when the wait would last beyond `deadline`.
    async fn acquire(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded>;
}

/// Sustained rate, in calls per minute. With the burst it stays below 1000 in any minute and below 50 in any second.
const CALLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(950).unwrap();
/// Calls that need not wait after a pause.
const BURST: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// Calls between two removals of idle keys. Bounds the memory at this number of idle keys.
const CALLS_PER_CLEANUP: u32 = 1024;

/// Identifies one limit.
type Key = (AppId, EndpointClass);
type KeyedLimiter = governor::RateLimiter<Key, HashMapStateStore<Key>, TokioClock, NoOpMiddleware<Duration>>;

/// Limits the calls of this process.
pub struct LocalRateLimiter {
    limiter: KeyedLimiter,
    calls: AtomicU32,
}

impl Default for LocalRateLimiter {
    fn default() -> Self {
        let quota = Quota::per_minute(CALLS_PER_MINUTE).allow_burst(BURST);
        let clock = TokioClock(Instant::now());
        Self {
            limiter: governor::RateLimiter::new(quota, HashMapStateStore::default(), clock),
            calls: AtomicU32::new(0),
        }
    }
}

impl std::fmt::Debug for LocalRateLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalRateLimiter").field("keys", &self.limiter.len()).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl RateLimiter for LocalRateLimiter {
    async fn acquire(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % CALLS_PER_CLEANUP == CALLS_PER_CLEANUP - 1 {
            self.limiter.retain_recent();
        }
        let key = (app_id.clone(), class);
        while let Err(not_until) = self.limiter.check_key(&key) {
            let wait = not_until.wait_time_from(self.limiter.clock().now());
            if Instant::now() + wait > deadline {
                return Err(RateLimitExceeded { retry_after: wait });
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

/// The runtime's time since the start, so that tests with paused time can advance the limiter.
#[derive(Clone, Copy, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn app(number: u32) -> AppId {
        AppId::new(format!("cli_{number:016}")).unwrap()
    }

    async fn acquire(limiter: &LocalRateLimiter) -> Result<(), RateLimitExceeded> {
        limiter.acquire(&app(1), EndpointClass::MessageSend, Instant::now() + WAIT).await
    }

    async fn use_up_burst(limiter: &LocalRateLimiter) {
        for _ in 0..BURST.get() {
            acquire(limiter).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_after_burst_waits_for_sustained_rate() {
        let limiter = LocalRateLimiter::default();
        let started = Instant::now();
        use_up_burst(&limiter).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        acquire(&limiter).await.unwrap();
        acquire(&limiter).await.unwrap();
        let two = Duration::from_secs(120) / CALLS_PER_MINUTE.get();
        let took = started.elapsed();
        assert!((two..two + Duration::from_millis(5)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_beyond_deadline_returns_wait() {
        let limiter = LocalRateLimiter::default();
        let started = Instant::now();
        let results = futures::future::join_all((0..500).map(|_| acquire(&limiter))).await;
        assert!(started.elapsed() <= WAIT, "{:?}", started.elapsed());
        let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        // All but the burst and the calls that five seconds have room for.
        assert!((500 - 30 - 80..500 - 30 - 70).contains(&refused.len()), "{}", refused.len());
        assert!(refused.iter().all(|error| !error.retry_after.is_zero()));
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_other_app_or_class_does_not_wait() {
        let limiter = LocalRateLimiter::default();
        let started = Instant::now();
        use_up_burst(&limiter).await;
        for (app_id, class) in [(app(2), EndpointClass::MessageSend), (app(1), EndpointClass::Token)] {
            limiter.acquire(&app_id, class, started).await.unwrap();
        }
        assert!(limiter.acquire(&app(1), EndpointClass::MessageSend, started).await.is_err());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_many_apps_removes_idle_keys() {
        let limiter = LocalRateLimiter::default();
        for number in 0..10 * CALLS_PER_CLEANUP {
            limiter.acquire(&app(number), EndpointClass::Token, Instant::now()).await.unwrap();
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        assert!(limiter.limiter.len() < 2 * CALLS_PER_CLEANUP as usize, "{limiter:?}");
    }
}
