use std::sync::atomic::{AtomicU64, Ordering};

use larkauth_models::{ExposeSecret, SecretString, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, TryLockError};

use crate::error::LarkError;

/// Caches one of the application's own tokens.
#[derive(Default)]
pub(super) struct TokenCache {
    token: Mutex<Option<CachedToken>>,
    /// Locked by the one caller that fetches; holds the error of the last fetch.
    fetch: tokio::sync::Mutex<Option<LarkError>>,
    failures: AtomicU64,
}

#[derive(Clone)]
pub(super) struct CachedToken {
    pub(super) token: SecretString,
    pub(super) renew_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl TokenCache {
    pub(super) fn get(&self) -> Option<CachedToken> {
        self.token.lock().clone()
    }

    pub(super) fn put(&self, token: CachedToken) {
        *self.token.lock() = Some(token);
    }

    /// Drops the token that Lark refused. A newer token, which another caller has fetched meanwhile, stays.
    pub(super) fn invalidate(&self, refused: &SecretString) {
        let mut token = self.token.lock();
        if token.as_ref().is_some_and(|cached| cached.token.expose_secret() == refused.expose_secret()) {
            *token = None;
        }
    }

    /// Waits until this caller is the one that may fetch. The guard holds the error of the last fetch.
    pub(super) async fn lock_fetch(&self) -> MutexGuard<'_, Option<LarkError>> {
        self.fetch.lock().await
    }

    /// As [`lock_fetch`](Self::lock_fetch), but fails while another caller fetches.
    pub(super) fn try_lock_fetch(&self) -> Result<MutexGuard<'_, Option<LarkError>>, TryLockError> {
        self.fetch.try_lock()
    }

    /// Returns the number of failed fetches. A caller that waited for a fetch sees by it whether that fetch failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Release);
    }
}
