use std::time::Duration;

use larkauth_contracts::topology::{CRASH_LIMIT, DELAY_TIERS, MAX_ATTEMPTS};

/// Delays between attempts and limits of attempts. All processes on one broker must agree: the tiers are queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    tiers: Vec<Duration>,
    /// Attempts before a message becomes a dead letter.
    pub max_attempts: u32,
    /// Crashes of consumers that handled a message alone, after which it becomes a dead letter.
    pub crash_limit: u32,
}

impl Default for RetryPolicy {
    /// Returns the delays and limits of [`larkauth_contracts::topology`].
    fn default() -> Self {
        Self::new(DELAY_TIERS.iter().copied().map(Duration::from_secs), MAX_ATTEMPTS, CRASH_LIMIT)
    }
}

impl RetryPolicy {
    /// Creates a policy from its delays, in any order. Each is rounded to whole milliseconds, at least 1 ms; without any
    /// the only delay is 1 s.
    pub fn new(tiers: impl IntoIterator<Item = Duration>, max_attempts: u32, crash_limit: u32) -> Self {
        let whole = |tier: Duration| u64::try_from(tier.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut tiers: Vec<_> = tiers.into_iter().map(|tier| Duration::from_millis(whole(tier))).collect();
        tiers.sort_unstable();
        tiers.dedup();
        if tiers.is_empty() {
            tiers.push(Duration::from_secs(1));
        }
        Self { tiers, max_attempts, crash_limit }
    }

    /// Returns the delays, shortest first.
    #[must_use]
    pub fn tiers(&self) -> &[Duration] {
        &self.tiers
    }

    /// Returns the longest delay.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.tiers.last().copied().unwrap_or(Duration::from_secs(1))
    }

    /// Returns the wait after failed attempt number `attempt` (from 1): the tier of that position, then the longest.
    #[must_use]
    pub fn backoff(&self, attempt: u32) -> Duration {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        self.tiers.get(index).copied().unwrap_or_else(|| self.longest())
    }

    /// Returns the shortest tier that is not shorter than the wait, else the longest tier.
    #[must_use]
    pub fn tier_for(&self, wait: Duration) -> Duration {
        self.tiers.iter().copied().find(|tier| *tier >= wait).unwrap_or_else(|| self.longest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_matches_the_contract() {
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
    fn new_with_unordered_tiers_sorts_and_deduplicates_them() {
        let policy = RetryPolicy::new([Duration::from_secs(3), Duration::ZERO, Duration::from_secs(3)], 1, 1);
        assert_eq!(policy.tiers(), [Duration::from_millis(1), Duration::from_secs(3)]);
        assert_eq!(RetryPolicy::new([], 1, 1).longest(), Duration::from_secs(1));
    }
}
