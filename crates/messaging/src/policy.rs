use std::time::Duration;

use larkauth_contracts::topology::{DELAY_TIERS, DELIVERY_LIMIT, MAX_ATTEMPTS};

/// A queue holds at most so many messages; then publishing is refused. A safety net for the disk.
pub(crate) const MAX_LENGTH: u32 = 1_000_000;

/// How long messages wait between attempts, and when they are given up. All processes on one broker must agree: the
/// tiers are queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    tiers: Vec<Duration>,
    /// A message that its handlers gave back so often is dead.
    pub max_attempts: u32,
    /// A message that was returned by a dying consumer so often is dead.
    pub delivery_limit: u32,
}

impl Default for RetryPolicy {
    /// As [`larkauth_contracts::topology`] says.
    fn default() -> Self {
        Self::new(DELAY_TIERS.iter().copied().map(Duration::from_secs), MAX_ATTEMPTS, DELIVERY_LIMIT)
    }
}

impl RetryPolicy {
    /// A policy of its own: the delays that exist (whole milliseconds, at least one, any order; one second when there is none).
    pub fn new(tiers: impl IntoIterator<Item = Duration>, max_attempts: u32, delivery_limit: u32) -> Self {
        let whole = |tier: Duration| u64::try_from(tier.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut tiers: Vec<_> = tiers.into_iter().map(|tier| Duration::from_millis(whole(tier))).collect();
        tiers.sort_unstable();
        tiers.dedup();
        if tiers.is_empty() {
            tiers.push(Duration::from_secs(1));
        }
        Self { tiers, max_attempts, delivery_limit }
    }

    /// The delays that exist, shortest first.
    #[must_use]
    pub fn tiers(&self) -> &[Duration] {
        &self.tiers
    }

    /// The longest delay that exists.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.tiers.last().copied().unwrap_or(Duration::from_secs(1))
    }

    /// How long a message waits after its `attempt`-th (from 1) failed: each time the next tier, then the longest.
    #[must_use]
    pub fn backoff(&self, attempt: u32) -> Duration {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        self.tiers.get(index).copied().unwrap_or_else(|| self.longest())
    }

    /// The shortest tier that is not shorter than the wait, or the longest there is.
    #[must_use]
    pub fn tier_for(&self, wait: Duration) -> Duration {
        self.tiers.iter().copied().find(|tier| *tier >= wait).unwrap_or_else(|| self.longest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_contract() {
        use larkauth_contracts::topology::{backoff_tier, tier_for};
        let policy = RetryPolicy::default();
        for attempt in [0, 1, 2, 5, 9, 10, 12, u32::MAX] {
            assert_eq!(policy.backoff(attempt).as_secs(), backoff_tier(attempt), "{attempt}");
        }
        for millis in [0, 1, 1000, 1001, 4001, 256_000, 100_000_000] {
            let wait = Duration::from_millis(millis);
            assert_eq!(policy.tier_for(wait).as_secs(), tier_for(wait), "{millis}");
        }
    }

    #[test]
    fn odd_tiers_are_put_in_order() {
        let policy = RetryPolicy::new([Duration::from_secs(3), Duration::ZERO, Duration::from_secs(3)], 1, 1);
        assert_eq!(policy.tiers(), [Duration::from_millis(1), Duration::from_secs(3)]);
        assert_eq!(RetryPolicy::new([], 1, 1).longest(), Duration::from_secs(1));
    }
}
