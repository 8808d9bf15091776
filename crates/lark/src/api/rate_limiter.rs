//! Staying below Lark's limits: 50 calls a second and 1000 a minute, per application and kind of call.

use std::{array, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use super::call::Api;
use crate::error::{Cause, Fault, LarkError, Outcome};

/// Calls that share one of Lark's budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    /// The token endpoint, whatever the grant.
    Token,
    /// Sending messages.
    Send,
    /// Changing messages.
    Update,
    /// Who a user token belongs to.
    UserInfo,
    /// Contacts.
    Contacts,
}

/// Sustained rate. With the burst it stays below 1000 in any minute and below 50 in any second.
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(950).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// A longer wait than this is the caller's to make: it may have something better to do.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The budgets of one application in this process.
pub(super) struct Pace([RateLimiter<NotKeyed, InMemoryState, Monotonic, NoOpMiddleware<Duration>>; 5]);

impl Default for Pace {
    fn default() -> Self {
        let quota = Quota::per_minute(PER_MINUTE).allow_burst(BURST);
        let clock = Monotonic(Instant::now());
        Self(array::from_fn(|_| RateLimiter::direct_with_clock(quota, clock)))
    }
}

/// The runtime's time since the start, which the waits are measured in, too.
#[derive(Clone, Copy)]
struct Monotonic(Instant);

impl Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Pace {
    /// Waits until the budget has room for one more call.
    ///
    /// # Errors
    /// [`Fault::RateLimited`], with the time to wait, when that would take longer than five seconds.
    pub(super) async fn wait(&self, api: Api) -> Result<(), LarkError> {
        let Some(budget) = api.budget else { return Ok(()) };
        let limiter = &self.0[budget as usize];
        let mut waited = Duration::ZERO;
        while let Err(refused) = limiter.check() {
            let wait = refused.wait_time_from(limiter.clock().now());
            if waited + wait > LONGEST_WAIT {
                let message = "this process has used up what Lark allows";
                let error = LarkError::new(
                    api.name,
                    Fault::RateLimited,
                    Outcome::NotProcessed,
                    Cause::NotSent,
                    message,
                );
                return Err(LarkError { retry_after: Some(wait), ..error });
            }
            tokio::time::sleep(wait).await;
            waited += wait;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_the_rest_is_spread() {
        let pace = Pace::default();
        let api = Api::lark("send_card").paid_from(Budget::Send);
        let started = Instant::now();
        for _ in 0..BURST.get() {
            pace.wait(api).await.unwrap();
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        pace.wait(api).await.unwrap();
        pace.wait(api).await.unwrap();
        let two = Duration::from_secs(120) / PER_MINUTE.get();
        let took = started.elapsed();
        assert!((two..two + Duration::from_millis(5)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_told_to_come_back() {
        let pace = Pace::default();
        let api = Api::lark("send_card").paid_from(Budget::Send);
        let started = Instant::now();
        let results = futures::future::join_all((0..500).map(|_| pace.wait(api))).await;
        assert!(started.elapsed() <= LONGEST_WAIT, "{:?}", started.elapsed());
        let refused: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        // The burst, and what five seconds have room for.
        assert!((500 - 30 - 80..500 - 30 - 70).contains(&refused.len()), "{}", refused.len());
        assert!(refused.iter().all(|e| e.fault == Fault::RateLimited && e.retry_after.is_some()));
    }
}
