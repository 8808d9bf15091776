use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use larkauth_models::Timestamp;

use crate::violations::Peak;

/// Sliding windows of the last minute's calls, by caller and endpoint group.
#[derive(Default)]
pub(crate) struct Limiter(HashMap<String, Calls>);

/// The calls of one key.
#[derive(Default)]
struct Calls {
    accepted: VecDeque<Timestamp>,
    peak: Peak,
}

/// Group of all calls of the token endpoint, in both versions.
pub(crate) const TOKEN_ENDPOINT: &str = "token endpoint";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MAX_KEYS: usize = 10_000;

impl Limiter {
    /// Counts the call. Fails with the whole seconds until the next permitted call. Refused calls do not count.
    pub(crate) fn check(
        &mut self,
        key: &str,
        now: Timestamp,
        per_second: usize,
        per_minute: usize,
    ) -> Result<(), u64> {
        if self.0.len() >= MAX_KEYS {
            self.0.retain(|_, calls| calls.accepted.back().is_some_and(|last| within(*last, now, MINUTE)));
        }
        let Calls { accepted: calls, peak } = self.0.entry(key.to_owned()).or_default();
        while calls.front().is_some_and(|first| !within(*first, now, MINUTE)) {
            calls.pop_front();
        }
        let in_a_second = calls.iter().rev().take_while(|call| within(**call, now, SECOND)).count();
        // With this call, which is refused if it is one too many.
        peak.in_a_second = peak.in_a_second.max(in_a_second + 1);
        peak.in_a_minute = peak.in_a_minute.max(calls.len() + 1);
        if calls.len() >= per_minute {
            let oldest = calls.front().copied().unwrap_or(now);
            return Err(left(oldest, now, MINUTE));
        }
        if in_a_second >= per_second {
            return Err(1);
        }
        calls.push_back(now);
        Ok(())
    }

    /// Returns the busiest windows of a key.
    pub(crate) fn peak(&self, key: &str) -> Peak {
        self.0.get(key).map(|calls| calls.peak).unwrap_or_default()
    }
}

fn age(then: Timestamp, now: Timestamp) -> Duration {
    (now - then).to_std().unwrap_or_default()
}

fn within(then: Timestamp, now: Timestamp, window: Duration) -> bool {
    age(then, now) < window
}

fn left(then: Timestamp, now: Timestamp, window: Duration) -> u64 {
    window.saturating_sub(age(then, now)).as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limiter_check_beyond_second_or_minute_limit_returns_wait() {
        let mut limiter = Limiter::default();
        let start = Timestamp::UNIX_EPOCH;
        let at = |millis: i64| start + chrono::TimeDelta::milliseconds(millis);
        let mut call = |millis| limiter.check("app", at(millis), 2, 3);
        assert_eq!(call(0), Ok(()));
        assert_eq!(call(10), Ok(()));
        assert_eq!(call(20), Err(1));
        assert_eq!(call(1000), Ok(()));
        assert_eq!(call(2500), Err(57), "the minute is full until the first call is a minute old");
        assert_eq!(call(60_000), Ok(()));
        assert_eq!(limiter.peak("app"), Peak { in_a_second: 3, in_a_minute: 4 }, "with those refused");
        assert_eq!(limiter.peak("other"), Peak::default());
    }
}
