use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{Clock, SecretString};

/// Source of randomness, replaceable by a reproducible one in tests.
pub trait Entropy: Send + Sync + fmt::Debug + 'static {
    /// Fills the whole buffer with unpredictable bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// Returns a UUID that sorts by time (version 7).
    fn uuid(&self, clock: &dyn Clock) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let millis = u64::try_from(clock.now().timestamp_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// Returns 256 random bits as URL-safe text (43 characters), for an OAuth `state`, a PKCE verifier or an API key.
    fn secret_token(&self) -> SecretString {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Returns a number evenly distributed in `0.0 ..= 1.0`.
    fn fraction(&self) -> f64 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
    }

    /// Returns the duration, longer or shorter by at most `share` of it (0.2 = 20 %).
    fn jitter(&self, duration: Duration, share: f64) -> Duration {
        duration.mul_f64((1.0 + share * (2.0 * self.fraction() - 1.0)).max(0.0))
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::panic, reason = "no operation is safe without randomness")]
    fn fill(&self, buffer: &mut [u8]) {
        if let Err(error) = getrandom::fill(buffer) {
            panic!("the operating system provides no randomness: {error}");
        }
    }
}

/// Generator whose bytes depend on the seed only. For tests and the simulator.
pub struct SeededEntropy {
    seed: u64,
    counter: Mutex<u64>,
}

impl SeededEntropy {
    /// Creates a generator at the start of the sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, counter: Mutex::new(0) }
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeededEntropy").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        let mut counter = self.counter.lock();
        for chunk in buffer.chunks_mut(32) {
            *counter += 1;
            let block = Sha256::new()
                .chain_update(self.seed.to_le_bytes())
                .chain_update(counter.to_le_bytes())
                .finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

/// Returns whether a text has the form of an [`Entropy::secret_token`]: 32 bytes in unpadded base64url.
#[must_use]
pub fn is_secret_token(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_of_fifth_stays_within_fifth() {
        let entropy = SeededEntropy::new(1);
        for _ in 0..1000 {
            let d = entropy.jitter(Duration::from_secs(10), 0.2);
            assert!((8.0..=12.0).contains(&d.as_secs_f64()), "{d:?}");
        }
    }

    #[test]
    fn fill_with_same_seed_repeats_and_with_other_seed_differs() {
        let bytes = |seed| {
            let mut buffer = [0; 100];
            SeededEntropy::new(seed).fill(&mut buffer);
            buffer
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }
}
