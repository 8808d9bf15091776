use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::coverage::Coverage;

/// Reads of one value that changes all the time until it is served: each saw a state of the store, and the last one the latest.
const READS: usize = 4;
/// Parts with a lock each.
const SHARDS: usize = 16;

/// A bounded cache whose values end by [`Coverage`]. A value is kept only if no change was applied while it was being read, which
/// the cache libraries cannot decide: their insertion does not know of an invalidation that came before it.
pub(crate) struct Cache<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    coverage: Arc<Coverage>,
    /// Most keys of a shard.
    capacity: usize,
}

struct Shard<K, V> {
    entries: HashMap<K, Entry<V>, RandomState>,
    /// The keys of `entries`, next to be evicted first.
    order: VecDeque<K>,
    /// Number of changes that were applied.
    changes: u64,
}

struct Entry<V> {
    /// `None` once it may not be served: the secret is dropped at once, the key by the next sweep.
    value: Option<V>,
    read_at: Instant,
    /// Whether it was served since it was last considered for eviction.
    is_used: bool,
}

/// A read of the store that has begun.
#[derive(Clone, Copy, Debug)]
struct Reading {
    shard: usize,
    changes: u64,
    began_at: Instant,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    /// Holds about `capacity` values at most; none when it is 0.
    pub(super) fn new(coverage: Arc<Coverage>, capacity: usize) -> Self {
        let hasher = RandomState::new();
        let shard =
            || Shard { entries: HashMap::with_hasher(hasher.clone()), order: VecDeque::new(), changes: 0 };
        let shards = (0..SHARDS).map(|_| Mutex::new(shard())).collect();
        Self { shards, hasher, coverage, capacity: capacity.div_ceil(SHARDS) }
    }

    /// Returns a value that may be served now.
    pub(crate) fn get<Q: ?Sized + Hash + Eq>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut shard = self.shards[self.index(key)].lock();
        let entry = shard.entries.get_mut(key)?;
        if self.coverage.is_fresh(entry.read_at, Instant::now()) {
            entry.is_used = true;
            return entry.value.clone();
        }
        entry.value = None;
        None
    }

    /// Returns a value that may be served now, from the cache or from the store. `is_newer` as in [`Cache::insert`].
    ///
    /// # Errors
    /// Those of `fetch`.
    pub(crate) async fn read<Q, E, F>(
        &self,
        key: &Q,
        fetch: impl Fn() -> F,
        is_newer: impl Fn(&V, &V) -> bool,
    ) -> Result<Option<V>, E>
    where
        Q: ?Sized + Hash + Eq + ToOwned<Owned = K>,
        K: Borrow<Q>,
        F: Future<Output = Result<Option<V>, E>>,
    {
        if let Some(value) = self.get(key) {
            return Ok(Some(value));
        }
        let mut reads = 0;
        loop {
            reads += 1;
            let reading = self.begin(key);
            let Some(value) = fetch().await? else { return Ok(None) };
            match self.insert(reading, key.to_owned(), value.clone(), &is_newer) {
                Some(value) => return Ok(Some(value)),
                None if reads == READS => return Ok(Some(value)),
                None => {}
            }
        }
    }

    /// Begins a read of the store.
    fn begin<Q: ?Sized + Hash>(&self, key: &Q) -> Reading {
        let shard = self.index(key);
        let changes = self.shards[shard].lock().changes;
        Reading { shard, changes, began_at: Instant::now() }
    }

    /// Keeps what the store returned, and returns what to serve. `None` when a change was applied since the read began: the
    /// value may be older than the change, and must be read again.
    ///
    /// Reads that overlap may see different states of the store. `is_newer` says whether the first value, which was kept
    /// meanwhile, is newer than the second.
    fn insert(&self, reading: Reading, key: K, value: V, is_newer: impl FnOnce(&V, &V) -> bool) -> Option<V> {
        let mut shard = self.shards[reading.shard].lock();
        if shard.changes != reading.changes {
            return None;
        }
        let now = Instant::now();
        if self.capacity == 0 {
            return Some(value);
        }
        if let Some(entry) = shard.entries.get_mut(&key) {
            if let Some(kept) = &entry.value
                && self.coverage.is_fresh(entry.read_at, now)
                && is_newer(kept, &value)
            {
                return Some(kept.clone());
            }
            entry.value = Some(value.clone());
            entry.read_at = reading.began_at;
            return Some(value);
        }
        if !self.coverage.is_fresh(reading.began_at, now) {
            return Some(value);
        }
        if shard.entries.len() >= self.capacity {
            shard.evict();
        }
        shard.order.push_back(key.clone());
        let entry = Entry { value: Some(value.clone()), read_at: reading.began_at, is_used: false };
        shard.entries.insert(key, entry);
        Some(value)
    }

    /// Puts a new value in place of the one that `is_old` tells. Its life does not change.
    pub(super) fn replace<Q: ?Sized + Hash + Eq>(&self, key: &Q, is_old: impl FnOnce(&V) -> bool, new: V)
    where
        K: Borrow<Q>,
    {
        let mut shard = self.shards[self.index(key)].lock();
        if let Some(value) = shard.entries.get_mut(key).and_then(|entry| entry.value.as_mut())
            && is_old(value)
        {
            *value = new;
        }
    }

    /// Applies a change of a key.
    pub(crate) fn forget<Q: ?Sized + Hash + Eq>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let mut shard = self.shards[self.index(key)].lock();
        shard.changes += 1;
        if let Some(entry) = shard.entries.get_mut(key) {
            entry.value = None;
        }
    }

    /// Applies a change of any key.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.changes += 1;
            shard.entries.clear();
            shard.order.clear();
        }
    }

    /// Drops the values that have ended, or that are not to be kept.
    pub(super) fn sweep(&self, keep: impl Fn(&V) -> bool) {
        for shard in &self.shards {
            let Shard { entries, order, .. } = &mut *shard.lock();
            let now = Instant::now();
            entries.retain(|_, entry| {
                self.coverage.is_fresh(entry.read_at, now) && entry.value.as_ref().is_some_and(&keep)
            });
            order.retain(|key| entries.contains_key(key));
        }
    }

    fn index<Q: ?Sized + Hash>(&self, key: &Q) -> usize {
        // The remainder of a division by SHARDS is smaller than it.
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0)
    }
}

impl<K: Clone + Eq + Hash, V> Shard<K, V> {
    /// Removes the oldest key that was not used since it was considered last.
    fn evict(&mut self) {
        while let Some(key) = self.order.pop_front() {
            match self.entries.get_mut(&key) {
                Some(entry) if entry.is_used && entry.value.is_some() => {
                    entry.is_used = false;
                    self.order.push_back(key);
                }
                _ => {
                    self.entries.remove(&key);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn cache(capacity: usize) -> Cache<String, u32> {
        Cache::new(Arc::new(Coverage::new(SECOND, 30 * SECOND)), capacity)
    }

    fn end(cache: &Cache<String, u32>, reading: Reading, key: &str, value: u32) -> Option<u32> {
        cache.insert(reading, key.to_owned(), value, |kept, new| kept > new)
    }

    fn put(cache: &Cache<String, u32>, key: &str, value: u32) -> bool {
        end(cache, cache.begin(key), key, value) == Some(value)
    }

    #[tokio::test(start_paused = true)]
    async fn get_after_staleness_is_none_unless_covered() {
        let cache = cache(100);
        assert!(put(&cache, "a", 1));
        tokio::time::advance(SECOND * 9 / 10).await;
        assert_eq!(cache.get("a"), Some(1));
        cache.coverage.extend(Instant::now());
        tokio::time::advance(SECOND * 9 / 10).await;
        assert_eq!(cache.get("a"), Some(1));
        tokio::time::advance(SECOND / 10).await;
        assert_eq!(cache.get("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn insert_after_change_during_read_is_refused() {
        let cache = cache(100);
        for change in
            [|cache: &Cache<String, u32>| cache.forget("a"), |cache: &Cache<String, u32>| cache.clear()]
        {
            let reading = cache.begin("a");
            change(&cache);
            assert_eq!(end(&cache, reading, "a", 1), None);
            assert_eq!(cache.get("a"), None);
            assert!(put(&cache, "a", 2));
            assert_eq!(cache.get("a"), Some(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn insert_of_slow_read_counts_from_its_beginning() {
        let cache = cache(100);
        let slow = cache.begin("b");
        tokio::time::advance(SECOND / 2).await;
        assert_eq!(end(&cache, slow, "b", 1), Some(1));
        tokio::time::advance(SECOND / 2).await;
        assert_eq!(cache.get("b"), None);
        let slow = cache.begin("c");
        tokio::time::advance(SECOND).await;
        assert_eq!(end(&cache, slow, "c", 1), Some(1));
        assert_eq!(cache.get("c"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn insert_of_older_value_beside_newer_serves_the_newer() {
        let cache = cache(100);
        let (first, second) = (cache.begin("a"), cache.begin("a"));
        assert_eq!(end(&cache, first, "a", 2), Some(2));
        assert_eq!(end(&cache, second, "a", 1), Some(2), "it was served already");
        assert_eq!(cache.get("a"), Some(2));
        assert!(put(&cache, "a", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn capacity_is_kept_and_used_keys_stay() {
        let cache = cache(SHARDS * 4);
        let held = |cache: &Cache<String, u32>| {
            cache.shards.iter().map(|shard| shard.lock().entries.len()).sum::<usize>()
        };
        for n in 0..1000 {
            assert!(put(&cache, &n.to_string(), n));
            cache.get("0");
        }
        assert!(held(&cache) <= SHARDS * 4);
        assert_eq!((cache.get("0"), cache.get("999")), (Some(0), Some(999)));
        for round in 0..100 {
            cache.forget("999");
            assert!(put(&cache, "999", round));
        }
        let ordered = cache.shards.iter().map(|shard| shard.lock().order.len()).sum::<usize>();
        assert_eq!(ordered, held(&cache), "a key is considered for eviction once");
        cache.sweep(|value| *value == 0);
        assert_eq!((held(&cache), cache.get("0")), (1, Some(0)));
        tokio::time::advance(SECOND).await;
        cache.sweep(|_| true);
        assert_eq!(held(&cache), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_capacity_keeps_nothing() {
        let cache = cache(0);
        assert!(put(&cache, "a", 1));
        assert_eq!(cache.get("a"), None);
    }
}
