use std::time::Duration;

use crate::Entropy;

/// Waits between attempts that double from a base to a cap, each with random jitter so that many clients do not come
/// back at once. No wait is shorter than the base or longer than the cap.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    /// Largest deviation from the wait, as a share of it (0.25 = 25 %).
    jitter: f64,
    step: u32,
}

impl Backoff {
    /// Waits from `base` to `cap`. Each deviates from the doubled wait by at most the share `jitter`.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration, jitter: f64) -> Self {
        Self { base, cap, jitter, step: 0 }
    }

    /// Returns the next wait and advances.
    pub fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let factor = 2_u32.checked_pow(self.step).unwrap_or(u32::MAX);
        self.step = self.step.saturating_add(1);
        self.jittered(self.base.saturating_mul(factor).min(self.cap), entropy)
    }

    /// Returns the wait after `n` earlier ones, without advancing.
    pub fn nth(&self, n: u32, entropy: &dyn Entropy) -> Duration {
        Self { step: n, ..*self }.next(entropy)
    }

    /// Returns the cap, with jitter below it.
    pub fn longest(&self, entropy: &dyn Entropy) -> Duration {
        self.jittered(self.cap, entropy)
    }

    /// Returns the wait with jitter. A result outside of base and cap is reflected at that end: cut off there, many waits would
    /// be equal.
    fn jittered(&self, wait: Duration, entropy: &dyn Entropy) -> Duration {
        let wait = entropy.jitter(wait, self.jitter);
        let wait = if wait > self.cap { self.cap.saturating_sub(wait - self.cap) } else { wait };
        if wait < self.base { (self.base + (self.base - wait)).min(self.cap) } else { wait }
    }

    /// Starts again at the base.
    pub const fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    fn one_to_sixty_seconds() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 0.25)
    }

    #[test]
    fn next_doubles_to_the_cap_within_the_jitter_and_reset_starts_again() {
        let entropy = SeededEntropy::new(7);
        let mut backoff = one_to_sixty_seconds();
        for _ in 0..2 {
            for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0] {
                let wait = backoff.next(&entropy).as_secs_f64();
                assert!((expected * 0.75..=expected * 1.25).contains(&wait), "{wait} instead of {expected}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn no_wait_is_outside_of_base_and_cap_and_none_is_frequent() {
        let (entropy, backoff) = (SeededEntropy::new(7), one_to_sixty_seconds());
        let range = Duration::from_secs(1)..=Duration::from_secs(60);
        for n in 0..12 {
            for _ in 0..200 {
                assert!(range.contains(&backoff.nth(n, &entropy)), "{n}");
            }
        }
        let mut longest: Vec<_> = (0..200).map(|_| backoff.longest(&entropy)).collect();
        assert!(longest.iter().all(|wait| range.contains(wait) && wait.as_secs() >= 45));
        longest.sort_unstable();
        longest.dedup();
        assert!(longest.len() > 190, "{}", longest.len());
        let equal = Backoff::new(Duration::from_secs(1), Duration::from_secs(1), 0.2);
        assert_eq!(equal.longest(&entropy), Duration::from_secs(1));
    }

    #[test]
    fn next_after_many_steps_does_not_overflow() {
        let entropy = SeededEntropy::new(7);
        let mut backoff = one_to_sixty_seconds();
        for _ in 0..100 {
            assert!(backoff.next(&entropy) <= Duration::from_secs(60));
        }
        backoff.step = u32::MAX;
        assert!(backoff.next(&entropy) <= Duration::from_secs(60));
    }
}
