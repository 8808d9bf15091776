use std::{sync::Arc, time::Duration};

use larkauth_models::AppId;
use moka::future::Cache;

use super::app::App;

/// Most applications that are kept; the least used of more are looked up again.
pub(super) const CACHE_CAPACITY: u64 = 1_000;

/// Most ids that are kept of applications that are not registered.
const UNKNOWN_CAPACITY: u64 = 10_000;
/// How long an application is taken for not registered: 1 s. Another process may register it meanwhile.
const UNKNOWN_TTL: Duration = Duration::from_secs(1);

/// Recent registrations, and recent looks that found none. Clones share the entries.
#[derive(Clone)]
pub(super) struct AppCache {
    known: Cache<AppId, Arc<App>>,
    unknown: Cache<AppId, ()>,
}

impl AppCache {
    /// Keeps an entry for `ttl`. A change made by another process is seen after that.
    pub(super) fn new(ttl: Duration) -> Self {
        let unknown = Cache::builder().max_capacity(UNKNOWN_CAPACITY).time_to_live(UNKNOWN_TTL.min(ttl));
        Self {
            known: Cache::builder().max_capacity(CACHE_CAPACITY).time_to_live(ttl).build(),
            unknown: unknown.build(),
        }
    }

    pub(super) async fn get(&self, app_id: &AppId) -> Option<Arc<App>> {
        self.known.get(app_id).await
    }

    pub(super) async fn insert(&self, app: Arc<App>) {
        self.known.insert(app.application.app_id.clone(), app).await;
    }

    pub(super) async fn is_unknown(&self, app_id: &AppId) -> bool {
        self.unknown.get(app_id).await.is_some()
    }

    pub(super) async fn insert_unknown(&self, app_id: AppId) {
        self.unknown.insert(app_id, ()).await;
    }

    /// Drops an entry, so that the next look goes to the store.
    pub(super) async fn invalidate(&self, app_id: &AppId) {
        self.known.invalidate(app_id).await;
        self.unknown.invalidate(app_id).await;
    }
}
