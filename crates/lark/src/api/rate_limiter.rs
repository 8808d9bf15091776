//! Keeps calls below Lark's limits: 50 calls a second and 1000 a minute, per application and class of endpoint.

use std::{collections::HashMap, time::Duration};

use larkauth_models::{AppId, CallRate, Lane};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

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
        lane: Lane,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded>;

    /// Counts at most so many calls of the background ahead, and returns when each may be made. At least one. A call that
    /// is not made soon after its time is lost. It is made with [`LarkClient::reserved`](super::LarkClient::reserved).
    ///
    /// # Errors
    /// [`RateLimitExceeded`], at once, when there is no room.
    async fn reserve(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        calls: u32,
    ) -> Result<Vec<Instant>, RateLimitExceeded>;

    /// Permits no call before the wait is over: Lark refused one and asks for the wait.
    async fn hold(&self, app_id: &AppId, class: EndpointClass, wait: Duration);
}

/// Calls between two removals of idle keys. Bounds the memory at this number of idle keys.
const CALLS_PER_CLEANUP: u32 = 1024;

/// Limits the calls of this process.
#[derive(Debug)]
pub struct LocalRateLimiter {
    rate: CallRate,
    budgets: Mutex<Budgets>,
}

#[derive(Debug, Default)]
struct Budgets {
    /// The end of the calls that were granted, by application and class.
    ends: HashMap<(AppId, EndpointClass), Instant>,
    calls: u32,
}

impl Default for LocalRateLimiter {
    fn default() -> Self {
        Self::new(CallRate::LARK)
    }
}

impl LocalRateLimiter {
    /// Permits each application this rate in each class.
    #[must_use]
    pub fn new(rate: CallRate) -> Self {
        Self { rate, budgets: Mutex::default() }
    }

    /// Takes at most so many calls out of a budget. Returns their waits, or the wait until there is room for one.
    fn take(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        lane: Lane,
        calls: u32,
        max_wait: Duration,
    ) -> Result<Vec<Duration>, Duration> {
        let now = Instant::now();
        let mut budgets = self.budgets.lock();
        budgets.calls = budgets.calls.wrapping_add(1);
        if budgets.calls.is_multiple_of(CALLS_PER_CLEANUP) {
            budgets.ends.retain(|_, end| *end > now);
        }
        let end = budgets.ends.entry((app_id.clone(), class)).or_insert(now);
        let lead = end.saturating_duration_since(now);
        let request = self.rate.request(lane, calls, max_wait);
        let granted = request.granted(lead);
        if granted == 0 {
            return Err(match lane {
                Lane::People => self.rate.wait(lane, lead, 0),
                Lane::Background => request.wait_for(1, lead),
            });
        }
        *end = now + lead + self.rate.interval * granted;
        Ok((0..granted).map(|index| self.rate.wait(lane, lead, index)).collect())
    }
}

#[async_trait::async_trait]
impl RateLimiter for LocalRateLimiter {
    async fn acquire(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        lane: Lane,
        deadline: Instant,
    ) -> Result<(), RateLimitExceeded> {
        loop {
            let max_wait = deadline.saturating_duration_since(Instant::now());
            match self.take(app_id, class, lane, 1, max_wait) {
                Ok(waits) => {
                    sleep(waits.first().copied().unwrap_or_default()).await;
                    return Ok(());
                }
                // People are told when their turn would be; the background asks again when there is room.
                Err(wait) if lane == Lane::People || wait > max_wait => {
                    return Err(RateLimitExceeded { retry_after: wait });
                }
                Err(wait) => sleep_until(Instant::now() + wait).await,
            }
        }
    }

    async fn reserve(
        &self,
        app_id: &AppId,
        class: EndpointClass,
        calls: u32,
    ) -> Result<Vec<Instant>, RateLimitExceeded> {
        let now = Instant::now();
        let waits = self.take(app_id, class, Lane::Background, calls, Duration::ZERO);
        let waits = waits.map_err(|retry_after| RateLimitExceeded { retry_after })?;
        Ok(waits.into_iter().map(|wait| now + wait).collect())
    }

    async fn hold(&self, app_id: &AppId, class: EndpointClass, wait: Duration) {
        let until = Instant::now() + self.rate.lead_of_wait(wait);
        let mut budgets = self.budgets.lock();
        let end = budgets.ends.entry((app_id.clone(), class)).or_insert(until);
        *end = until.max(*end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);
    const BURST: u32 = CallRate::LARK.burst;

    fn app(number: u32) -> AppId {
        AppId::new(format!("cli_{number:016}")).unwrap()
    }

    async fn acquire(limiter: &LocalRateLimiter) -> Result<(), RateLimitExceeded> {
        limiter.acquire(&app(1), EndpointClass::MessageSend, Lane::People, Instant::now() + WAIT).await
    }

    async fn use_up_burst(limiter: &LocalRateLimiter) {
        for _ in 0..BURST {
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
        let two = 2 * CallRate::LARK.interval;
        let took = started.elapsed();
        assert!((two..two + Duration::from_millis(5)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_beyond_deadline_returns_wait() {
        let limiter = LocalRateLimiter::default();
        let started = Instant::now();
        let results = futures::future::join_all((0..500).map(|_| acquire(&limiter))).await;
        assert!(started.elapsed() <= WAIT + Duration::from_millis(2), "{:?}", started.elapsed());
        let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        // All but the burst and the calls that five seconds have room for.
        assert!((500 - 12 - 83..500 - 12 - 79).contains(&refused.len()), "{}", refused.len());
        assert!(refused.iter().all(|error| error.retry_after > WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_other_app_or_class_does_not_wait() {
        let limiter = LocalRateLimiter::default();
        let started = Instant::now();
        use_up_burst(&limiter).await;
        for (app_id, class) in [(app(2), EndpointClass::MessageSend), (app(1), EndpointClass::Token)] {
            limiter.acquire(&app_id, class, Lane::People, started).await.unwrap();
        }
        let refused = limiter.acquire(&app(1), EndpointClass::MessageSend, Lane::People, started).await;
        assert!(refused.is_err());
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn reserve_leaves_room_for_people() {
        let limiter = LocalRateLimiter::default();
        let (app_id, class, started) = (app(1), EndpointClass::Token, Instant::now());
        let slots = limiter.reserve(&app_id, class, 100).await.unwrap();
        assert_eq!(slots.len(), (BURST - CallRate::LARK.reserve) as usize);
        assert!(slots.is_sorted() && slots[2] == started && slots[3] > started, "{slots:?}");
        assert!(limiter.reserve(&app_id, class, 1).await.is_err());
        for _ in 0..CallRate::LARK.reserve {
            limiter.acquire(&app_id, class, Lane::People, started).await.unwrap();
        }
        assert!(limiter.acquire(&app_id, class, Lane::People, started).await.is_err());
        assert!(limiter.acquire(&app_id, class, Lane::Background, started).await.is_err());
        // The background waits until the reserve is there again, and then for its own turn.
        limiter.acquire(&app_id, class, Lane::Background, started + WAIT).await.unwrap();
        let waited = started.elapsed();
        assert!(waited > 9 * CallRate::LARK.interval && waited < 11 * CallRate::LARK.interval, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn hold_stops_every_call_until_its_end() {
        let limiter = LocalRateLimiter::default();
        let (app_id, class, started) = (app(1), EndpointClass::Token, Instant::now());
        limiter.hold(&app_id, class, Duration::from_secs(3)).await;
        limiter.hold(&app_id, class, Duration::from_secs(1)).await;
        let refused = limiter.acquire(&app_id, class, Lane::People, started).await.unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(3));
        assert!(limiter.reserve(&app_id, class, 1).await.is_err());
        limiter.acquire(&app_id, class, Lane::People, started + WAIT).await.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn acquire_many_apps_removes_idle_keys() {
        let limiter = LocalRateLimiter::default();
        for number in 0..10 * CALLS_PER_CLEANUP {
            let (class, lane) = (EndpointClass::Token, Lane::People);
            limiter.acquire(&app(number), class, lane, Instant::now()).await.unwrap();
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let keys = limiter.budgets.lock().ends.len();
        assert!(keys < 2 * CALLS_PER_CLEANUP as usize, "{keys}");
    }
}
