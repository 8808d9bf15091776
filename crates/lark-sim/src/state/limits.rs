use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use larkauth_models::Timestamp;

/// Sliding windows of the last minute's calls, by caller and endpoint group.
#[derive(Default)]
pub(crate) struct Limiter(HashMap<String, VecDeque<Timestamp>>);

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
            self.0.retain(|_, calls| calls.back().is_some_and(|last| within(*last, now, MINUTE)));
        }
        let calls = self.0.entry(key.to_owned()).or_default();
        while calls.front().is_some_and(|first| !within(*first, now, MINUTE)) {
            calls.pop_front();
        }
        if calls.len() >= per_minute {
            let oldest = calls.front().copied().unwrap_or(now);
            return Err(left(oldest, now, MINUTE));
        }
        if calls.iter().rev().take_while(|call| within(**call, now, SECOND)).count() >= per_second {
            return Err(1);
        }
        calls.push_back(now);
        Ok(())
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
    }
}
