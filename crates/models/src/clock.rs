use std::fmt;

use parking_lot::Mutex;

/// Wall-clock time, everywhere in this workspace.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// Source of wall-clock time, replaceable in tests. Durations are measured with `tokio::time`, which tests can pause.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
    /// Takes the time that the database has now. A clock with an authority of its own ignores it.
    fn correct(&self, _database: Timestamp) {}
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time is read")]
    fn now(&self) -> Timestamp {
        // PostgreSQL stores microseconds. A truncated value compares equal after a round trip.
        chrono::SubsecRound::trunc_subsecs(chrono::Utc::now(), 6)
    }
}

/// The clock of the operating system, moved forward by [`ShiftedClock::advance`], so that a demo shows what happens hours
/// later.
#[derive(Debug, Default)]
pub struct ShiftedClock(Mutex<chrono::TimeDelta>);

impl ShiftedClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: chrono::TimeDelta) {
        *self.0.lock() += by;
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + *self.0.lock()
    }
}

/// A clock that changes only by [`ManualClock::advance`].
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// Creates a clock that shows `start`.
    #[must_use]
    pub const fn at(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }
    /// Moves the clock forward.
    pub fn advance(&self, by: std::time::Duration) {
        let by = chrono::TimeDelta::from_std(by).unwrap_or(chrono::TimeDelta::MAX);
        *self.0.lock() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}
