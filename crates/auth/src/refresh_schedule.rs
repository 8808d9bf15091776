//! When a token is refreshed: a pure function of its life, the time and a random number.

use std::time::Duration;

use larkauth_models::{RefreshPolicy, StoredToken, Timestamp, TokenPair};
use larkauth_storage::DueOrder;

/// Share of a life by which refreshes are spread, so that people who consented together are not refreshed together.
pub(crate) const SPREAD: f64 = 0.05;
/// Life of Lark's access tokens.
pub(crate) const ACCESS_LIFE: Duration = Duration::from_secs(7200);
/// Life of Lark's refresh tokens: 7 days.
pub(crate) const LOGIN_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

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
        let is_used = self.is_used(life.last_used_at, now);
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

impl RefreshSchedule {
    /// Returns the order in which due tokens are refreshed. A token is due before this share of its life is left, so that
    /// everything which ends within the window is due. A login that ends within a quarter of its own window comes before any
    /// access token: its end costs another consent, the end of an access token only a wait.
    #[must_use]
    pub fn order(&self, now: Timestamp) -> DueOrder {
        let left = (1.0 - self.threshold).clamp(0.0, 1.0);
        DueOrder {
            now,
            logins_before: now + LOGIN_LIFE.mul_f64(left / 4.0),
            access_before: now + ACCESS_LIFE.mul_f64(left),
        }
    }

    /// Returns whether the access token of this token is kept valid.
    pub(crate) fn keeps_access(&self, token: &StoredToken, now: Timestamp) -> bool {
        let last_used_at = token.last_used_at.unwrap_or(token.granted_at);
        match self.policy {
            RefreshPolicy::OnDemand => false,
            RefreshPolicy::Eager => true,
            RefreshPolicy::Adaptive => self.is_used(last_used_at, now),
        }
    }

    fn is_used(&self, last_used_at: Timestamp, now: Timestamp) -> bool {
        chrono::TimeDelta::from_std(self.used_for).is_ok_and(|used_for| now - last_used_at <= used_for)
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

    #[test]
    fn order_puts_logins_first_and_holds_due_tokens_only() {
        for threshold in [0.5, 0.8, 0.95] {
            let schedule = RefreshSchedule { threshold, ..schedule(RefreshPolicy::Eager) };
            let order = schedule.order(at(0));
            // A token at the edge of a window is due with any spread.
            let mut edge = life(0);
            edge.access_expires_at = order.access_before;
            edge.issued_at = order.access_before - ACCESS_LIFE;
            assert!(schedule.next(&edge, at(0), 0.0).unwrap() <= at(1), "{threshold}");
            edge.refresh_expires_at = Some(order.logins_before);
            edge.issued_at = order.logins_before - LOGIN_LIFE;
            let idle = RefreshSchedule { policy: RefreshPolicy::Adaptive, ..schedule };
            edge.last_used_at = at(-30 * DAY);
            assert!(idle.next(&edge, at(0), 0.0).unwrap() <= at(1), "{threshold}");
            assert!(order.logins_before > order.access_before);
        }
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
