//! Remembers the requests that were taken in the last minutes, so that none counts twice.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use larkauth_models::Timestamp;

/// A bounded memory of signatures. A signature covers timestamp and nonce, so that it stands for both.
#[derive(Debug, Default)]
pub(super) struct ReplayMemory(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    signatures: HashSet<[u8; 32]>,
    /// In the order of arrival, each with the time when it may be forgotten.
    order: VecDeque<(Timestamp, [u8; 32])>,
}

impl ReplayMemory {
    /// About 200 requests a second for five minutes, in some 10 MB.
    const CAPACITY: usize = 65_536;

    /// Whether a signature is remembered.
    pub(super) fn knows(&self, signature: &[u8; 32]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).signatures.contains(signature)
    }

    /// Remembers a signature until `forget_at`.
    pub(super) fn remember(&self, signature: [u8; 32], now: Timestamp, forget_at: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((until, oldest)) = seen.order.front().copied()
            && (until < now || seen.order.len() >= Self::CAPACITY)
        {
            seen.order.pop_front();
            seen.signatures.remove(&oldest);
        }
        if seen.signatures.insert(signature) {
            seen.order.push_back((forget_at, signature));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_forgets_in_time_and_never_grows_beyond_its_bound() {
        let memory = ReplayMemory::default();
        let start = Timestamp::from_timestamp_millis(1_700_000_000_000).unwrap();
        let later = start + Duration::from_secs(600);
        memory.remember([1; 32], start, later);
        memory.remember([2; 32], later, later);
        assert!(memory.knows(&[1; 32]) && memory.knows(&[2; 32]) && !memory.knows(&[3; 32]));
        memory.remember([3; 32], later + Duration::from_millis(1), later + Duration::from_secs(600));
        assert!(!memory.knows(&[1; 32]) && !memory.knows(&[2; 32]) && memory.knows(&[3; 32]));
        for n in 0..2 * ReplayMemory::CAPACITY {
            let mut signature = [0; 32];
            signature[..8].copy_from_slice(&n.to_le_bytes());
            memory.remember(signature, start, later);
        }
        let seen = memory.0.lock().unwrap();
        assert!(seen.order.len() <= ReplayMemory::CAPACITY && seen.signatures.len() == seen.order.len());
    }
}
