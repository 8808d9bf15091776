use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use larkauth_models::{Actor, AppId, OpenId, Principal};
use larkauth_storage::AuditEntry;

/// Records of reads that may be repeated, each with the number of equal reads so far. A caller that reads one token a thousand
/// times in a second is one record with this number, and not a thousand.
#[derive(Default)]
pub(crate) struct Repeats {
    hasher: RandomState,
    /// By the hash of caller and token; of two records with one hash the later one is not counted here.
    open: HashMap<u64, AuditEntry>,
}

impl Repeats {
    /// Counts a read if there is the record of an equal one.
    pub(crate) fn count(&mut self, actor: &Actor, app_id: &AppId, open_id: &OpenId) -> bool {
        let Principal::ApiKey { id, .. } = &actor.principal else { return false };
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let actor_id: &str = id.hyphenated().encode_lower(&mut text);
        let address = actor.origin.address.as_deref();
        let key = self.key(actor_id, app_id.as_str(), open_id.as_str(), address);
        let Some(entry) = self.open.get_mut(&key) else { return false };
        let is_equal = entry.actor_id == actor_id
            && entry.app_id.as_deref() == Some(app_id.as_str())
            && entry.person.as_deref() == Some(open_id.as_str())
            && entry.address.as_deref() == address;
        if is_equal {
            entry.count = entry.count.saturating_add(1);
        }
        is_equal
    }

    /// Opens the record of a read that may be repeated. Gives it back when it cannot be.
    pub(crate) fn open(&mut self, entry: AuditEntry) -> Option<AuditEntry> {
        let (Some(app_id), Some(open_id)) = (&entry.app_id, &entry.person) else { return Some(entry) };
        let key = self.key(&entry.actor_id, app_id, open_id, entry.address.as_deref());
        if self.open.contains_key(&key) {
            return Some(entry);
        }
        self.open.insert(key, entry);
        None
    }

    /// Closes all records.
    pub(crate) fn take(&mut self) -> Vec<AuditEntry> {
        let mut entries: Vec<_> = self.open.drain().map(|(_, entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| (entry.at, entry.id));
        entries
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    fn key(&self, actor_id: &str, app_id: &str, open_id: &str, address: Option<&str>) -> u64 {
        self.hasher.hash_one((actor_id, app_id, open_id, address))
    }
}
