use std::collections::{HashMap, VecDeque};

/// A map that evicts its oldest entry when it is full.
pub(crate) struct Ledger<V> {
    entries: HashMap<String, V>,
    order: VecDeque<String>,
    capacity: usize,
}

impl<V> Ledger<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), capacity }
    }

    pub(crate) fn insert(&mut self, key: String, value: V) {
        if self.entries.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        // A removed key leaves `order` too, so both stay within the capacity.
        while self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        let value = self.entries.remove(key)?;
        self.order.retain(|known| known != key);
        Some(value)
    }

    /// Iterates from the oldest.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.order.iter().filter_map(|key| self.entries.get(key))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_insert_beyond_capacity_removes_oldest_entry() {
        let mut ledger = Ledger::new(2);
        for key in ["a", "b", "c"] {
            ledger.insert(key.to_owned(), key);
        }
        assert!(ledger.get("a").is_none());
        assert_eq!(ledger.values().copied().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(ledger.remove("b"), Some("b"));
        assert_eq!(ledger.values().count(), 1);
    }
}
