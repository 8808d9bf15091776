use std::time::Duration;

use larkauth_models::{CallRate, Lane};

/// Most calls that the background reserves at once, as in production.
const BATCH: u32 = 8;

/// The budget of the token endpoint, and the times of its calls.
pub(super) struct Budget {
    rate: CallRate,
    end: Duration,
    calls: Vec<Duration>,
}

impl Budget {
    pub(super) const fn new(rate: CallRate) -> Self {
        Self { rate, end: Duration::ZERO, calls: Vec::new() }
    }

    /// Reserves calls of the background. Returns their times.
    pub(super) fn reserve(&mut self, now: Duration, wanted: usize) -> Vec<Duration> {
        let wanted = u32::try_from(wanted).unwrap_or(BATCH).min(BATCH);
        let lead = self.end.saturating_sub(now);
        let granted = self.rate.request(Lane::Background, wanted, Duration::ZERO).granted(lead);
        self.end = now + lead + self.rate.interval * granted;
        let times: Vec<_> =
            (0..granted).map(|index| now + self.rate.wait(Lane::Background, lead, index)).collect();
        self.calls.extend(&times);
        times
    }

    /// Takes one call for a person. Returns its wait; `None` when it would be longer than `max_wait`.
    pub(super) fn acquire(&mut self, now: Duration, max_wait: Duration) -> Option<Duration> {
        let lead = self.end.saturating_sub(now);
        let request = self.rate.request(Lane::People, 1, max_wait);
        (request.granted(lead) == 1).then(|| {
            self.end = now + lead + self.rate.interval;
            let wait = self.rate.wait(Lane::People, lead, 0);
            self.calls.push(now + wait);
            wait
        })
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.len() as u64
    }

    /// Returns the largest number of calls in any window of this length.
    pub(super) fn most_within(&mut self, window: Duration) -> usize {
        self.calls.sort_unstable();
        let (mut first, mut most) = (0, 0);
        for (last, time) in self.calls.iter().enumerate() {
            while *time - self.calls[first] >= window {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }
}
