//! Remembers the requests of the last minutes, so that none counts twice.

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

    /// Remembers a signature until `forget_at`; false if it is remembered already.
    pub(super) fn is_new(&self, signature: [u8; 32], now: Timestamp, forget_at: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((until, oldest)) = seen.order.front().copied()
            && (until < now || seen.order.len() >= Self::CAPACITY)
        {
            seen.order.pop_front();
            seen.signatures.remove(&oldest);
        }
        if !seen.signatures.insert(signature) {
            return false;
        }
        seen.order.push_back((forget_at, signature));
        true
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
        assert!(memory.is_new([1; 32], start, later));
        assert!(!memory.is_new([1; 32], later, later));
        assert!(memory.is_new([1; 32], later + Duration::from_millis(1), later + Duration::from_secs(600)));
        for n in 0..2 * ReplayMemory::CAPACITY {
            let mut signature = [0; 32];
            signature[..8].copy_from_slice(&n.to_le_bytes());
            memory.is_new(signature, start, later);
        }
        let seen = memory.0.lock().unwrap();
        assert!(seen.order.len() <= ReplayMemory::CAPACITY && seen.signatures.len() == seen.order.len());
    }
}
