use std::fmt;

use parking_lot::Mutex;

/// Wall-clock time, everywhere in this workspace.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// Wall time as an argument, so that tests can move it. Durations are measured with `tokio::time`, which tests can pause.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where wall time is read")]
    fn now(&self) -> Timestamp {
        // PostgreSQL keeps microseconds; a value that survives a round trip is easier to compare.
        chrono::SubsecRound::trunc_subsecs(chrono::Utc::now(), 6)
    }
}

/// A clock that stands still until told to move.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// Starts at the given time.
    #[must_use]
    pub const fn at(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }
    /// Moves forward.
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
