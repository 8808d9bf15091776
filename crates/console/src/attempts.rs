use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock};
use moka::future::Cache;

/// Wrong keys that one address may send in a minute: 10, as many as a person with a clipboard needs.
const PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Most addresses that are counted.
const CAPACITY: u64 = 10_000;
/// Time after which the count of an address without attempts is dropped: longer than the minute that is counted.
const IDLE: Duration = Duration::from_secs(120);

/// Bounds the wrong keys that one address sends to the login form.
pub(crate) struct Attempts(Cache<String, Arc<DefaultDirectRateLimiter>>);

impl Attempts {
    /// Counts an attempt. Returns the time to wait when the address has made too many.
    pub(crate) async fn count(&self, address: &str) -> Result<(), Duration> {
        let new = async { Arc::new(RateLimiter::direct(Quota::per_minute(PER_MINUTE))) };
        let limiter = self.0.get_with(address.to_owned(), new).await;
        limiter.check().map_err(|early| early.wait_time_from(limiter.clock().now()))
    }

    /// Forgets the attempts of an address that has sent a right key.
    pub(crate) async fn forget(&self, address: &str) {
        self.0.invalidate(address).await;
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build())
    }
}
