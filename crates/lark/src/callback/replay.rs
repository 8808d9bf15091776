//! Remembers the requests of the last minutes, so that none is processed twice.

use std::collections::{HashSet, VecDeque};

use larkauth_models::Timestamp;
use parking_lot::Mutex;

/// A bounded set of signatures. A signature covers timestamp and nonce, so that it identifies a request.
#[derive(Debug, Default)]
pub(super) struct ReplayCache(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    signatures: HashSet<[u8; 32]>,
    /// In order of arrival, each with its expiry.
    order: VecDeque<(Timestamp, [u8; 32])>,
}

impl ReplayCache {
    /// Most signatures stored. Five minutes of about 200 requests a second, in about 10 MB.
    const CAPACITY: usize = 65_536;

    /// Returns whether a signature is stored.
    pub(super) fn contains(&self, signature: &[u8; 32]) -> bool {
        self.0.lock().signatures.contains(signature)
    }

    /// Stores a signature until `expires_at`. The oldest signature is dropped when the cache is full.
    pub(super) fn insert(&self, signature: [u8; 32], now: Timestamp, expires_at: Timestamp) {
        let mut seen = self.0.lock();
        while let Some((until, oldest)) = seen.order.front().copied()
            && (until < now || seen.order.len() >= Self::CAPACITY)
        {
            seen.order.pop_front();
            seen.signatures.remove(&oldest);
        }
        if seen.signatures.insert(signature) {
            seen.order.push_back((expires_at, signature));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn replay_cache_expired_or_full_drops_oldest() {
        let cache = ReplayCache::default();
        let start = Timestamp::from_timestamp_millis(1_700_000_000_000).unwrap();
        let later = start + Duration::from_secs(600);
        cache.insert([1; 32], start, later);
        cache.insert([2; 32], later, later);
        assert!(cache.contains(&[1; 32]) && cache.contains(&[2; 32]) && !cache.contains(&[3; 32]));
        cache.insert([3; 32], later + Duration::from_millis(1), later + Duration::from_secs(600));
        assert!(!cache.contains(&[1; 32]) && !cache.contains(&[2; 32]) && cache.contains(&[3; 32]));
        for n in 0..2 * ReplayCache::CAPACITY {
            let mut signature = [0; 32];
            signature[..8].copy_from_slice(&n.to_le_bytes());
            cache.insert(signature, start, later);
        }
        let seen = cache.0.lock();
        assert!(seen.order.len() <= ReplayCache::CAPACITY && seen.signatures.len() == seen.order.len());
    }
}
