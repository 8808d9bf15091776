//! How calls are spread over time so that a rate limit holds: the generic cell rate algorithm, with a reserve for people.

use std::time::Duration;

use crate::spelled_enum::spelled_enum;

spelled_enum! {
    /// Who waits for a call.
    Lane {
        /// A person, or a service on behalf of a person.
        People = "people",
        /// Scheduled work, which may wait.
        Background = "background",
    }
}

/// A rate of calls and the bursts that it permits.
///
/// The state of a budget is one time: the end of the calls that were granted so far. Its distance from now is the *lead*.
/// A call is granted by adding one interval to the lead. It is made at once while the lead is within the burst, and after a
/// wait otherwise. In `n` intervals at most `n + burst` calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRate {
    /// Time between two calls of a sustained rate.
    pub interval: Duration,
    /// Calls that need not wait after a pause.
    pub burst: u32,
    /// Calls of the burst that are kept for people.
    pub reserve: u32,
    /// Calls of the background that need not wait after a pause.
    pub background_burst: u32,
}

/// A request for calls, in the terms of a budget's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRequest {
    /// Most calls to grant.
    pub calls: u32,
    /// The time that each call takes of the budget.
    pub interval: Duration,
    /// Largest lead after the grant.
    pub max_lead: Duration,
}

impl CallRate {
    /// The rate for Lark's limit of 1000 calls a minute and 50 a second.
    ///
    /// 983 calls a minute and a burst of 12 are at most 995 calls in any minute and 28 in any second. The rest is for calls
    /// that reach Lark up to 300 ms later than others.
    pub const LARK: Self =
        Self { interval: Duration::from_millis(61), burst: 12, reserve: 4, background_burst: 3 };

    /// Returns the rate of one of `parts` processes that cannot agree on a common budget.
    #[must_use]
    pub fn divided_by(self, parts: u32) -> Self {
        let parts = parts.max(1);
        Self {
            interval: self.interval * parts,
            burst: (self.burst / parts).max(2),
            reserve: 1,
            background_burst: 1,
        }
    }

    /// Returns the request for calls of a lane, none of which waits longer than `max_wait`. The background does not wait:
    /// it is granted a call only when the reserve of people is left.
    #[must_use]
    pub fn request(&self, lane: Lane, calls: u32, max_wait: Duration) -> CallRequest {
        let max_lead = match lane {
            Lane::People => max_wait.saturating_add(self.interval * self.burst),
            Lane::Background => self.interval * self.burst.saturating_sub(self.reserve).max(1),
        };
        CallRequest { calls, interval: self.interval, max_lead }
    }

    /// Returns the wait of the call that is granted as number `index` (from 0) when the lead is `lead`.
    #[must_use]
    pub fn wait(&self, lane: Lane, lead: Duration, index: u32) -> Duration {
        let burst = match lane {
            Lane::People => self.burst,
            Lane::Background => self.background_burst,
        };
        (lead + self.interval * index).saturating_sub(self.interval * burst.saturating_sub(1))
    }

    /// Returns the lead at which the next call waits this long.
    #[must_use]
    pub fn lead_of_wait(&self, wait: Duration) -> Duration {
        wait.saturating_add(self.interval * self.burst.saturating_sub(1))
    }

    /// Returns the number of calls that are made in a minute without a pause.
    #[must_use]
    pub fn calls_per_minute(&self) -> f64 {
        60.0 / self.interval.as_secs_f64()
    }
}

impl CallRequest {
    /// Returns the number of calls that are granted when the lead is `lead`.
    #[must_use]
    pub fn granted(&self, lead: Duration) -> u32 {
        let room = self.max_lead.saturating_sub(lead).as_micros();
        let fitting = room / self.interval.as_micros().max(1);
        u32::try_from(fitting).unwrap_or(u32::MAX).min(self.calls)
    }

    /// Returns the time until so many calls would be granted.
    #[must_use]
    pub fn wait_for(&self, calls: u32, lead: Duration) -> Duration {
        (lead + self.interval * calls).saturating_sub(self.max_lead)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    /// Returns the largest number of times within a window.
    fn most_within(times: &[Duration], window: Duration) -> usize {
        let (mut first, mut most) = (0, 0);
        for (last, time) in times.iter().enumerate() {
            while *time - times[first] >= window {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }

    /// Asks at each of these times; returns when the granted calls are made, by lane.
    fn made(asks: &[(Duration, Lane, u32)]) -> [Vec<Duration>; 2] {
        let rate = CallRate::LARK;
        let (mut end, mut made) = (Duration::ZERO, [Vec::new(), Vec::new()]);
        for (now, lane, calls) in asks {
            let lead = end.saturating_sub(*now);
            let request = rate.request(*lane, *calls, Duration::from_secs(20));
            let granted = request.granted(lead);
            made[*lane as usize].extend((0..granted).map(|index| *now + rate.wait(*lane, lead, index)));
            end = end.max(*now) + rate.interval * granted;
        }
        made
    }

    #[test]
    fn lark_rate_is_at_least_98_percent_of_the_limit() {
        assert!(CallRate::LARK.calls_per_minute() >= 983.0);
    }

    #[test]
    fn background_without_pause_uses_the_whole_rate() {
        // A batch is asked for every 150 ms for 10 minutes.
        let asks: Vec<_> =
            (0..4000).map(|n| (Duration::from_millis(150 * n), Lane::Background, 100)).collect();
        let [_, made] = made(&asks);
        assert!(made.len() >= 9830, "{}", made.len());
        assert!(most_within(&made, MINUTE) <= 995);
    }

    #[test]
    fn people_do_not_wait_beside_a_full_background() {
        let mut asks: Vec<_> =
            (0..400).map(|n| (Duration::from_millis(150 * n), Lane::Background, 100)).collect();
        // Four people at once, every two seconds.
        for second in (1..60).step_by(2) {
            asks.extend((0..4).map(|_| (Duration::from_millis(second * 1000 + 1), Lane::People, 1)));
        }
        asks.sort_by_key(|(at, lane, _)| (*at, *lane as usize));
        let [people, _] = made(&asks);
        let late = people.iter().zip(asks.iter().filter(|(_, lane, _)| *lane == Lane::People));
        for (made, (asked, ..)) in late {
            assert_eq!(made, asked);
        }
    }

    #[test]
    fn divided_rate_of_all_parts_stays_below_the_whole() {
        for parts in 1..=5 {
            let part = CallRate::LARK.divided_by(parts);
            let in_a_minute = f64::from(parts) * (part.calls_per_minute() + f64::from(part.burst));
            assert!(in_a_minute <= 1000.0, "{parts}: {in_a_minute}");
        }
    }

    proptest! {
        #[test]
        fn no_order_of_requests_exceeds_a_limit(
            asks in prop::collection::vec((0_u64..400, prop::bool::ANY, 1_u32..40), 1..600)
        ) {
            let mut now = Duration::ZERO;
            let asks: Vec<_> = asks.into_iter().map(|(pause, is_person, calls)| {
                now += Duration::from_millis(pause);
                (now, if is_person { Lane::People } else { Lane::Background }, calls)
            }).collect();
            let [people, background] = made(&asks);
            let mut all = [people, background].concat();
            all.sort();
            prop_assert!(most_within(&all, MINUTE) <= 995, "{}", most_within(&all, MINUTE));
            prop_assert!(most_within(&all, SECOND) <= 40, "{}", most_within(&all, SECOND));
        }

        #[test]
        fn granted_calls_fit_and_the_wait_for_more_is_exact(
            calls in 1_u32..100, lead in 0_u64..3_000_000, wait in 0_u64..10_000_000, is_person in prop::bool::ANY,
        ) {
            let lane = if is_person { Lane::People } else { Lane::Background };
            let (lead, wait) = (Duration::from_micros(lead), Duration::from_micros(wait));
            let request = CallRate::LARK.request(lane, calls, wait);
            let granted = request.granted(lead);
            prop_assert!(granted <= calls);
            if granted > 0 {
                prop_assert!(lead + request.interval * granted <= request.max_lead);
                prop_assert_eq!(request.wait_for(granted, lead), Duration::ZERO);
                if lane == Lane::People {
                    prop_assert!(CallRate::LARK.wait(lane, lead, granted - 1) <= wait);
                }
            }
            if granted < calls {
                let more = request.wait_for(granted + 1, lead);
                prop_assert!(more > Duration::ZERO);
                prop_assert!(request.granted(lead.saturating_sub(more)) > granted || more > lead);
            }
        }
    }
}
