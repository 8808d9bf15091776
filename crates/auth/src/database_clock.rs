use std::{sync::Arc, time::Duration};

use chrono::{SubsecRound, TimeDelta};
use larkauth_models::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Difference between the machine's clock and the database's that is logged: 5 s.
const WORTH_A_LINE: TimeDelta = TimeDelta::seconds(5);

/// The clock of the database, for a process that asks it from time to time.
///
/// Every process stores expiry times and compares them with its own time. A machine whose clock is wrong would serve a token
/// after its end, or store an end that is too late for all others. Between two answers of the database the time follows the
/// monotonic clock, so a jump of the machine's clock has no effect. Before the first answer the machine's clock counts.
#[derive(Debug)]
pub struct DatabaseClock {
    machine: Arc<dyn Clock>,
    answer: Mutex<Option<Answer>>,
}

/// The latest answer of the database.
#[derive(Clone, Copy, Debug)]
struct Answer {
    time: Timestamp,
    at: Instant,
    /// The machine's clock differed from it.
    differs: bool,
}

impl Answer {
    fn now(&self) -> Timestamp {
        let since = TimeDelta::from_std(self.at.elapsed()).unwrap_or(TimeDelta::MAX);
        // PostgreSQL stores microseconds.
        (self.time + since).trunc_subsecs(6)
    }
}

impl DatabaseClock {
    /// Follows the machine's clock until the database's time is known.
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        Self { machine, answer: Mutex::new(None) }
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let answer = *self.answer.lock();
        answer.map_or_else(|| self.machine.now(), |answer| answer.now())
    }

    fn correct(&self, database: Timestamp) {
        let difference = self.machine.now() - database;
        let differs = difference.abs() >= WORTH_A_LINE;
        let new = Answer { time: database, at: Instant::now(), differs };
        let old = self.answer.lock().replace(new);
        if differs && !old.is_some_and(|old| old.differs) {
            let seconds = difference.num_seconds();
            tracing::warn!(
                seconds,
                "the clock of this machine differs from the database's, whose time counts; set the clock of the one that is wrong"
            );
        }
    }
}

/// Returns the time of an answer now: half of the round trip ago the database read its clock.
pub(crate) fn after_round_trip(time: Timestamp, round_trip: Duration) -> Timestamp {
    time + TimeDelta::from_std(round_trip / 2).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use larkauth_models::ManualClock;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn now_before_first_answer_is_the_machines() {
        let machine = Arc::new(ManualClock::at(at(0)));
        let clock = DatabaseClock::new(machine.clone());
        machine.advance(HOUR);
        assert_eq!(clock.now(), at(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn now_after_answer_follows_monotonic_time_and_no_jump_of_the_machine() {
        let machine = Arc::new(ManualClock::at(at(86_400)));
        let clock = DatabaseClock::new(machine.clone());
        clock.correct(at(0));
        assert_eq!(clock.now(), at(0));
        machine.advance(HOUR);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(clock.now(), at(7));
        clock.correct(at(100));
        assert_eq!(clock.now(), at(100), "the database's clock may jump, too");
    }
}
