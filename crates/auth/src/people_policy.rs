//! Settings and timings of what is done about people without their asking: looking them up, and asking them again.

use std::time::Duration;

use chrono::{Datelike, TimeDelta, Timelike, Weekday};
use chrono_tz::Tz;
use larkauth_models::Timestamp;
use larkauth_storage::InvitationPause;

use crate::schedule::Schedule;

/// How long Lark refreshes a consent: 365 days.
const CONSENT_DAYS: i64 = 365;
/// Hours of a working day in which people may be asked, the last one exclusive.
const WORKING_HOURS: std::ops::Range<u32> = 9..18;

/// When and how people are looked up at Lark.
#[derive(Clone, Debug)]
pub struct UserSyncPolicy {
    /// Whether they are.
    pub enabled: bool,
    /// When a pass over all people begins.
    pub schedule: Schedule,
    /// How long after its time a pass still begins: 6 h. A later start waits for the next time.
    pub begin_window: Duration,
    /// People in one call: 50, the most that Lark takes.
    pub batch: u32,
    /// Pause between two calls: 250 ms, so that a pass takes a quarter of Lark's 1000 calls a minute.
    pub pause: Duration,
    /// How long one run goes on: 40 s. The next minute goes on from there.
    pub run: Duration,
    /// How old the last look at a person must be for a refresh to look again: 24 h.
    pub refresh_interval: Duration,
    /// Longest look after a refresh: 5 s.
    pub refresh_look: Duration,
}

impl Default for UserSyncPolicy {
    fn default() -> Self {
        const fn seconds(count: u64) -> Duration {
            Duration::from_secs(count)
        }
        Self {
            enabled: false,
            schedule: Schedule::Interval(seconds(24 * 3600)),
            begin_window: seconds(6 * 3600),
            batch: 50,
            pause: Duration::from_millis(250),
            run: seconds(40),
            refresh_interval: seconds(24 * 3600),
            refresh_look: seconds(5),
        }
    }
}

/// When and how people are asked again by larkauth itself.
#[derive(Clone, Debug)]
pub struct ReauthorizePolicy {
    /// Whether they are.
    pub enabled: bool,
    /// How long before the 365-day end of a consent its person is asked: 14 days.
    pub ahead: Duration,
    /// Time zone of the working hours.
    pub timezone: Tz,
    /// How recent the use of an ended token must be for its person to be asked outside of working hours: 24 h.
    pub in_use: Duration,
    /// How long a person is left in peace who declined, did not answer or could not be asked: a day to 30 days.
    pub pause: InvitationPause,
    /// Life of such an invitation: 24 h, as no one waits for it.
    pub lifetime: Duration,
    /// Most people of one application who are asked in one run: 100, a tenth of Lark's limit of messages a minute.
    pub batch: u32,
    /// How long a person is claimed: 2 min. A process that stops leaves the person to the next one after that.
    pub claim: Duration,
}

impl Default for ReauthorizePolicy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            enabled: true,
            ahead: DAY * 14,
            timezone: Tz::Asia__Shanghai,
            in_use: DAY,
            pause: InvitationPause { first: DAY, longest: DAY * 30 },
            lifetime: DAY,
            batch: 100,
            claim: Duration::from_secs(120),
        }
    }
}

impl ReauthorizePolicy {
    /// Returns whether people may be asked at a time: Monday to Friday, 9 to 18 o'clock.
    #[must_use]
    pub fn is_working_time(&self, now: Timestamp) -> bool {
        let local = now.with_timezone(&self.timezone);
        let is_weekend = matches!(local.weekday(), Weekday::Sat | Weekday::Sun);
        !is_weekend && WORKING_HOURS.contains(&local.hour())
    }

    /// Returns the latest time of a consent whose person is asked now.
    #[must_use]
    pub fn granted_before(&self, now: Timestamp) -> Timestamp {
        let ahead = TimeDelta::from_std(self.ahead).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(TimeDelta::days(CONSENT_DAYS))
            .and_then(|then| then.checked_add_signed(ahead))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn is_working_time_follows_zone_and_its_changes_of_the_clock() {
        let shanghai = ReauthorizePolicy::default();
        // A Friday.
        for (time, expected) in [
            ("2026-11-27T00:59:59Z", false),
            ("2026-11-27T01:00:00Z", true),
            ("2026-11-27T09:59:59Z", true),
            ("2026-11-27T10:00:00Z", false),
            ("2026-11-28T02:00:00Z", false),
            ("2026-11-29T23:00:00Z", false),
            ("2026-11-30T01:00:00Z", true),
        ] {
            assert_eq!(shanghai.is_working_time(at(time)), expected, "{time}");
        }
        let berlin = ReauthorizePolicy { timezone: Tz::Europe__Berlin, ..shanghai };
        // The Fridays before and the Mondays after the clock is changed.
        for (time, expected) in [
            ("2026-03-27T07:59:00Z", false),
            ("2026-03-27T08:00:00Z", true),
            ("2026-03-30T06:59:00Z", false),
            ("2026-03-30T07:00:00Z", true),
            ("2026-10-23T07:00:00Z", true),
            ("2026-10-26T07:00:00Z", false),
            ("2026-10-26T08:00:00Z", true),
        ] {
            assert_eq!(berlin.is_working_time(at(time)), expected, "{time}");
        }
    }

    #[test]
    fn granted_before_is_the_end_of_a_consent_less_the_days_ahead() {
        let policy = ReauthorizePolicy::default();
        assert_eq!(policy.granted_before(at("2026-12-18T00:00:00Z")), at("2026-01-01T00:00:00Z"));
    }
}
