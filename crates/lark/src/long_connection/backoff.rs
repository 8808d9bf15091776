use std::time::Duration;

use larkauth_models::Entropy;

use super::LongConnectionConfig;

/// Waits that double from the base to the cap, each blurred by jitter so that many clients do not come back at once.
///
/// The server's `ReconnectInterval` and `ReconnectNonce` (wait up to 30 s, then a flat 120 s) are left aside on purpose:
/// while deaf, a click is lost for good, so the first tries come fast and the later ones stay faster than theirs. Nothing in
/// Lark's limits speaks against one attempt a minute.
#[derive(Debug)]
pub(super) struct Backoff {
    base: Duration,
    cap: Duration,
    jitter: f64,
    step: u32,
}

impl Backoff {
    pub(super) const fn new(config: &LongConnectionConfig) -> Self {
        Self { base: config.backoff_base, cap: config.backoff_cap, jitter: config.backoff_jitter, step: 0 }
    }

    /// The next wait of the row.
    pub(super) fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let factor = 2_u32.checked_pow(self.step).unwrap_or(u32::MAX);
        self.step = self.step.saturating_add(1);
        entropy.jitter(self.base.saturating_mul(factor).min(self.cap), self.jitter)
    }

    /// The longest wait, jittered.
    pub(super) fn longest(&self, entropy: &dyn Entropy) -> Duration {
        entropy.jitter(self.cap, self.jitter)
    }

    /// The row begins anew.
    pub(super) const fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use larkauth_models::SeededEntropy;

    use super::*;

    #[test]
    fn doubles_to_the_cap_within_the_jitter_and_starts_anew_after_a_reset() {
        let entropy = SeededEntropy::new(7);
        let mut backoff = Backoff::new(&LongConnectionConfig::default());
        for _ in 0..2 {
            for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0] {
                let wait = backoff.next(&entropy).as_secs_f64();
                assert!((expected * 0.75..=expected * 1.25).contains(&wait), "{wait} instead of {expected}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn never_overflows() {
        let entropy = SeededEntropy::new(7);
        let mut backoff = Backoff::new(&LongConnectionConfig::default());
        for _ in 0..100 {
            assert!(backoff.next(&entropy) <= Duration::from_secs(75));
        }
        backoff.step = u32::MAX;
        assert!(backoff.next(&entropy) <= Duration::from_secs(75));
    }
}
