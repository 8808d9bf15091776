use std::{collections::HashMap, sync::Arc};

use larkauth_models::{AppId, Clock, OpenId, StoredToken, TokenKind, TokenStatus};
use larkauth_storage::{StorageError, Store};
use parking_lot::Mutex;

use super::cache::Cache;

/// Most refreshed tokens that are kept until the store has them.
const MOST_AHEAD: usize = 1000;

/// Tokens of people, decrypted.
pub(crate) struct Tokens {
    /// By the open id, which Lark gives out once for an application and a person.
    kept: Cache<String, Arc<StoredToken>>,
    /// Refreshed tokens that were served and whose pair is still on its way to the store, on the bus or in the spool.
    ahead: Mutex<HashMap<String, Arc<StoredToken>>>,
    clock: Arc<dyn Clock>,
}

impl Tokens {
    pub(super) fn new(kept: Cache<String, Arc<StoredToken>>, clock: Arc<dyn Clock>) -> Self {
        Self { kept, ahead: Mutex::default(), clock }
    }

    /// Returns the token of a person, as the store has it or had it a moment ago. Never of an older generation than one that
    /// this process served.
    pub(crate) async fn get(
        &self,
        store: &dyn Store,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<Option<Arc<StoredToken>>, StorageError> {
        let fetch = || self.fetch(store, app_id, open_id);
        let token = self.kept.read(open_id.as_str(), fetch, |kept, new| is_newer(kept, new)).await?;
        match token {
            // Two applications with one open id, which Lark does not give out.
            Some(token) if token.app_id != *app_id => self.fetch(store, app_id, open_id).await,
            token => Ok(token),
        }
    }

    async fn fetch(
        &self,
        store: &dyn Store,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<Option<Arc<StoredToken>>, StorageError> {
        let stored = store.token(app_id, open_id, TokenKind::User).await?;
        if stored.is_none() {
            self.ahead.lock().remove(open_id.as_str());
        }
        Ok(stored.map(|stored| self.newest(stored)))
    }

    /// Learns of a refreshed token that is about to be served. The store may get it later. `None`: the store says that the
    /// token was revoked, or its person suspended.
    pub(crate) async fn learn(&self, store: &dyn Store, token: StoredToken) -> Option<Arc<StoredToken>> {
        let token = Arc::new(token);
        self.forget(token.open_id.as_str());
        match store.token(&token.app_id, &token.open_id, TokenKind::User).await {
            Ok(None) => return None,
            Ok(Some(stored)) if stored.status == TokenStatus::Suspended => return None,
            Ok(Some(stored)) if stored.generation >= token.generation => {}
            Ok(Some(_)) | Err(_) => {
                let mut ahead = self.ahead.lock();
                if ahead.len() < MOST_AHEAD {
                    ahead.insert(token.open_id.to_string(), token.clone());
                }
            }
        }
        Some(token)
    }

    /// Puts a copy with a later time of use in place of a token.
    pub(crate) fn used(&self, token: &Arc<StoredToken>, used: StoredToken) {
        self.kept.replace(token.open_id.as_str(), |kept| Arc::ptr_eq(kept, token), Arc::new(used));
    }

    /// Applies a change of the token of a person.
    pub(crate) fn forget(&self, open_id: &str) {
        self.kept.forget(open_id);
    }

    pub(super) fn clear(&self) {
        self.kept.clear();
    }

    /// Drops the tokens that have expired or may not be served.
    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        let is_valid = |token: &Arc<StoredToken>| token.pair.access_expires_at > now;
        self.kept.sweep(is_valid);
        self.ahead.lock().retain(|_, token| is_valid(token));
    }

    /// Returns the stored token, or the newer one whose pair the store does not have yet.
    fn newest(&self, stored: StoredToken) -> Arc<StoredToken> {
        let mut ahead = self.ahead.lock();
        if let Some(newer) = ahead.get(stored.open_id.as_str()) {
            let is_newer = is_newer(newer, &stored);
            if is_newer && stored.status != TokenStatus::Suspended {
                return newer.clone();
            }
            if !is_newer {
                ahead.remove(stored.open_id.as_str());
            }
        }
        Arc::new(stored)
    }
}

/// Returns whether one token of a person replaced the other.
fn is_newer(one: &StoredToken, other: &StoredToken) -> bool {
    one.app_id == other.app_id && one.generation > other.generation
}
