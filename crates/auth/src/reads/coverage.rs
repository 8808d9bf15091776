use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Up to when every change is known, and therefore how long a value may be served.
///
/// A value was in the database when it was read. If all changes up to a later moment have been applied and the value is still
/// kept, it was in the database at that moment, too. It is served for `staleness` after the later of both.
pub(super) struct Coverage {
    staleness: Duration,
    /// Longest life of a value after it was read, even if no change is announced.
    life: Duration,
    start: Instant,
    /// Nanoseconds from `start` to the moment up to which all changes have been applied; 0 when there is none.
    covered: AtomicU64,
}

impl Coverage {
    pub(super) fn new(staleness: Duration, life: Duration) -> Self {
        Self { staleness, life, start: Instant::now(), covered: AtomicU64::new(0) }
    }

    /// Notes that every change that was committed before `moment` has been applied.
    pub(super) fn extend(&self, moment: Instant) {
        let nanos = u64::try_from((moment - self.start).as_nanos()).unwrap_or(u64::MAX);
        self.covered.fetch_max(nanos, Ordering::Release);
    }

    /// Returns whether a value that was read then may be served now.
    pub(super) fn is_fresh(&self, read_at: Instant, now: Instant) -> bool {
        let covered = self.start + Duration::from_nanos(self.covered.load(Ordering::Acquire));
        now - read_at < self.life && now - read_at.max(covered) < self.staleness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_fresh_for_staleness_after_read_or_coverage_and_never_beyond_life() {
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis(1));
        let coverage = Coverage::new(second, 10 * second);
        let read_at = Instant::now();
        assert!(coverage.is_fresh(read_at, read_at + second - ms));
        assert!(!coverage.is_fresh(read_at, read_at + second));
        coverage.extend(read_at + 5 * second);
        assert!(coverage.is_fresh(read_at, read_at + 6 * second - ms));
        assert!(!coverage.is_fresh(read_at, read_at + 6 * second));
        coverage.extend(read_at + 3 * second);
        assert!(coverage.is_fresh(read_at, read_at + 6 * second - ms), "an older proof takes nothing back");
        coverage.extend(read_at + 10 * second);
        assert!(!coverage.is_fresh(read_at, read_at + 10 * second));
        assert!(!Coverage::new(Duration::ZERO, second).is_fresh(read_at, read_at));
    }
}
