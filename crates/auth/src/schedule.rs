use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use chrono_tz::Tz;
use croner::Cron;
use larkauth_models::Timestamp;

/// When a job runs. The ticks depend on the schedule alone, so that all replicas compute the same ones.
#[derive(Clone, Debug)]
pub enum Schedule {
    /// At every multiple of the interval since 1970-01-01 00:00 UTC.
    Interval(Duration),
    /// At the times of a cron expression, in a time zone.
    Cron(Box<Cron>, Tz),
}

impl Schedule {
    /// Returns the first tick after a time; `None` when the schedule has no more ticks.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Interval(interval) => {
                let step = i64::try_from(interval.as_micros()).ok().filter(|step| *step > 0)?;
                let next = time.timestamp_micros().div_euclid(step).checked_add(1)?.checked_mul(step)?;
                DateTime::from_timestamp_micros(next)
            }
            Self::Cron(cron, zone) => {
                let next = cron.find_next_occurrence(&time.with_timezone(zone), false).ok()?;
                Some(next.to_utc())
            }
        }
    }

    /// Returns the last tick at a time or before; `None` when there was none.
    #[must_use]
    pub fn last_until(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Interval(interval) => {
                let step = i64::try_from(interval.as_micros()).ok().filter(|step| *step > 0)?;
                let last = time.timestamp_micros().div_euclid(step).checked_mul(step)?;
                DateTime::from_timestamp_micros(last)
            }
            Self::Cron(cron, zone) => {
                let last = cron.find_previous_occurrence(&time.with_timezone(zone), true).ok()?;
                Some(last.to_utc())
            }
        }
    }

    /// Returns how long after `now` a tick is due.
    pub(crate) fn wait(tick: Timestamp, now: Timestamp) -> Duration {
        (tick - now).max(TimeDelta::zero()).to_std().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn next_after_of_interval_is_the_next_multiple() {
        let schedule = Schedule::Interval(Duration::from_secs(15));
        assert_eq!(schedule.next_after(at("2026-03-01T10:00:07Z")), Some(at("2026-03-01T10:00:15Z")));
        assert_eq!(schedule.next_after(at("2026-03-01T10:00:15Z")), Some(at("2026-03-01T10:00:30Z")));
        assert_eq!(Schedule::Interval(Duration::ZERO).next_after(at("2026-03-01T10:00:15Z")), None);
    }

    #[test]
    fn next_after_of_cron_is_in_its_time_zone() {
        let schedule = Schedule::Cron(Box::new("0 2 * * *".parse().unwrap()), Tz::Asia__Shanghai);
        assert_eq!(schedule.next_after(at("2026-03-01T17:59:00Z")), Some(at("2026-03-01T18:00:00Z")));
        assert_eq!(schedule.next_after(at("2026-03-01T18:00:00Z")), Some(at("2026-03-02T18:00:00Z")));
    }

    /// Every night has one tick, also the night without 2 o'clock and the one with two.
    #[test]
    fn ticks_of_cron_when_the_clock_is_changed_are_one_a_night() {
        for (pattern, from, to) in [
            ("0 2 * * *", "2026-03-26T12:00:00Z", "2026-04-01T12:00:00Z"),
            ("30 2 * * *", "2026-03-26T12:00:00Z", "2026-04-01T12:00:00Z"),
            ("0 2 * * *", "2026-10-22T12:00:00Z", "2026-10-28T12:00:00Z"),
            ("30 2 * * *", "2026-10-22T12:00:00Z", "2026-10-28T12:00:00Z"),
        ] {
            let schedule = Schedule::Cron(Box::new(pattern.parse().unwrap()), Tz::Europe__Berlin);
            let (mut time, mut ticks) = (at(from), Vec::new());
            while let Some(next) = schedule.next_after(time).filter(|next| *next < at(to)) {
                ticks.push(next);
                time = next;
            }
            assert_eq!(ticks.len(), 6, "{pattern} after {from}: {ticks:?}");
            for pair in ticks.windows(2) {
                let apart = (pair[1] - pair[0]).num_minutes();
                assert!((22 * 60..=26 * 60).contains(&apart), "{pair:?}");
                // Any time between two ticks has the first one as its last.
                for minutes in (0..apart).step_by(30) {
                    let between = pair[0] + TimeDelta::minutes(minutes);
                    assert_eq!(schedule.last_until(between), Some(pair[0]), "{pattern} at {between}");
                }
            }
        }
    }

    #[test]
    fn last_until_of_interval_is_the_last_multiple() {
        let schedule = Schedule::Interval(Duration::from_secs(15));
        assert_eq!(schedule.last_until(at("2026-03-01T10:00:14Z")), Some(at("2026-03-01T10:00:00Z")));
        assert_eq!(schedule.last_until(at("2026-03-01T10:00:15Z")), Some(at("2026-03-01T10:00:15Z")));
    }
}
