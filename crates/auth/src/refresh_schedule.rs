//! When a token is refreshed: a pure function of its life, the time and a random number.

use std::time::Duration;

use larkauth_models::{RefreshPolicy, StoredToken, Timestamp, TokenPair};

/// Share of a life by which refreshes are spread, so that people who consented together are not refreshed together.
const SPREAD: f64 = 0.05;

/// When tokens are refreshed ahead. A pure function of a token's life, the time and a random number.
#[derive(Clone, Copy, Debug)]
pub struct RefreshSchedule {
    /// Who is refreshed ahead.
    pub policy: RefreshPolicy,
    /// The share of a life after which a token is refreshed, 0 to 1.
    pub threshold: f64,
    /// How long after its last use a token counts as used.
    pub used_for: Duration,
}

/// The times of a token that its schedule depends on.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Time at which Lark issued the pair.
    pub issued_at: Timestamp,
    /// Expiry of the access token.
    pub access_expires_at: Timestamp,
    /// Expiry of the refresh token; `None` when Lark did not say.
    pub refresh_expires_at: Option<Timestamp>,
    /// Last known use, or the consent.
    pub last_used_at: Timestamp,
}

impl Life {
    /// Returns the times of a new pair.
    #[must_use]
    pub fn of_new(pair: &TokenPair, issued_at: Timestamp, last_used_at: Timestamp) -> Self {
        Self {
            issued_at,
            access_expires_at: pair.access_expires_at,
            refresh_expires_at: pair.refresh_expires_at,
            last_used_at,
        }
    }
}

impl RefreshSchedule {
    /// Returns when the token is refreshed next. `spread` is random, 0 to 1. `None`: only when a caller needs the token.
    #[must_use]
    pub fn next(&self, life: &Life, now: Timestamp, spread: f64) -> Option<Timestamp> {
        let is_used = now - life.last_used_at <= chrono::TimeDelta::from_std(self.used_for).ok()?;
        let ends_at = match self.policy {
            RefreshPolicy::OnDemand => return None,
            RefreshPolicy::Eager => life.access_expires_at,
            RefreshPolicy::Adaptive if is_used => life.access_expires_at,
            // The access token may expire: the refresh token keeps the login alive.
            RefreshPolicy::Adaptive => life.refresh_expires_at.unwrap_or(life.access_expires_at),
        };
        // A refresh token that expires before its access token is the end of the login.
        let ends_at = life.refresh_expires_at.map_or(ends_at, |refresh| ends_at.min(refresh));
        let length = (ends_at - life.issued_at).to_std().unwrap_or_default();
        // Earlier than the threshold, never later.
        let share = (self.threshold - SPREAD * spread.clamp(0.0, 1.0)).clamp(0.0, 1.0);
        Some(life.issued_at + length.mul_f64(share))
    }
}

/// Returns whether a caller of the token should have it refreshed: less than a tenth of its life is left.
pub(crate) fn is_nearly_over(token: &StoredToken, now: Timestamp) -> bool {
    let life = token.pair.access_expires_at - token.issued_at;
    (token.pair.access_expires_at - now) * 10 < life
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn schedule(policy: RefreshPolicy) -> RefreshSchedule {
        RefreshSchedule { policy, threshold: 0.8, used_for: Duration::from_secs(86_400) }
    }

    fn life(last_used: i64) -> Life {
        Life {
            issued_at: at(0),
            access_expires_at: at(7200),
            refresh_expires_at: Some(at(7 * DAY)),
            last_used_at: at(last_used),
        }
    }

    #[test]
    fn next_follows_policy_and_use() {
        let next = |policy, last_used, now| schedule(policy).next(&life(last_used), at(now), 0.0);
        assert_eq!(next(RefreshPolicy::Eager, -30 * DAY, 0), Some(at(5760)));
        assert_eq!(next(RefreshPolicy::Adaptive, -60, 0), Some(at(5760)), "in use");
        assert_eq!(next(RefreshPolicy::Adaptive, -2 * DAY, 0), Some(at(7 * DAY * 4 / 5)), "idle");
        assert_eq!(next(RefreshPolicy::OnDemand, -60, 0), None);
    }

    #[test]
    fn next_of_odd_lives_is_before_their_end() {
        let mut unknown = life(-2 * DAY);
        unknown.refresh_expires_at = None;
        assert_eq!(schedule(RefreshPolicy::Adaptive).next(&unknown, at(0), 0.0), Some(at(5760)));
        let mut short = life(0);
        short.refresh_expires_at = Some(at(100));
        assert_eq!(schedule(RefreshPolicy::Eager).next(&short, at(0), 0.0), Some(at(80)));
        let mut over = life(0);
        over.access_expires_at = at(-5);
        assert_eq!(schedule(RefreshPolicy::Eager).next(&over, at(0), 1.0), Some(at(0)), "at once");
    }

    proptest! {
        #[test]
        fn next_lies_within_the_life_and_is_spread(
            access in 1_i64..100_000, refresh in proptest::option::of(1_i64..10_000_000), used in -1_000_000_i64..0,
            threshold in 0.5_f64..0.95, spread in 0.0_f64..1.0, policy in proptest::sample::select(RefreshPolicy::ALL),
        ) {
            let schedule = RefreshSchedule { policy, threshold, ..schedule(policy) };
            let life = Life {
                issued_at: at(0), access_expires_at: at(access), refresh_expires_at: refresh.map(at), last_used_at: at(used),
            };
            let next = schedule.next(&life, at(0), spread);
            prop_assert_eq!(next.is_none(), policy == RefreshPolicy::OnDemand);
            if let Some(next) = next {
                let end = refresh.unwrap_or(access).max(access.min(refresh.unwrap_or(access)));
                prop_assert!(next >= at(0) && next < at(end), "{:?}", next);
                prop_assert!(refresh.is_none_or(|refresh| next < at(refresh)));
                let earliest = schedule.next(&life, at(0), 1.0).unwrap();
                let latest = schedule.next(&life, at(0), 0.0).unwrap();
                prop_assert!(earliest <= next && next <= latest);
            }
        }
    }
}
