use std::time::Duration;

use moka::future::Cache;
use sha2::{Digest, Sha256};

/// Life of an entry, unless it is given: 10 s.
const TTL: Duration = Duration::from_secs(10);
/// Most entries; the least used of more are looked up again.
const CAPACITY: u64 = 10_000;

/// Digests of secrets that were looked up and not found, so that a repeated one costs no query. Apart from what was
/// found: a flood of wrong ones displaces nothing that is in use.
pub(crate) struct Unknown(Cache<[u8; 32], ()>);

impl Unknown {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(ttl).build())
    }

    pub(crate) async fn contains(&self, sha256: &[u8; 32]) -> bool {
        self.0.get(sha256).await.is_some()
    }

    pub(crate) async fn insert(&self, sha256: [u8; 32]) {
        self.0.insert(sha256, ()).await;
    }
}

impl Default for Unknown {
    fn default() -> Self {
        Self::new(TTL)
    }
}

pub(crate) fn sha256(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}
