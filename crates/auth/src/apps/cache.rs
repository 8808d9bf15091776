use std::{sync::Arc, time::Duration};

use larkauth_models::AppId;
use moka::future::Cache;

use super::app::App;

/// Most applications that are kept; the least used of more are looked up again.
pub(super) const CACHE_CAPACITY: u64 = 1_000;

/// Recent registrations. Clones share the entries.
#[derive(Clone)]
pub(super) struct AppCache(Cache<AppId, Arc<App>>);

impl AppCache {
    /// Keeps an entry for `ttl`. A change made by another process is seen after that.
    pub(super) fn new(ttl: Duration) -> Self {
        Self(Cache::builder().max_capacity(CACHE_CAPACITY).time_to_live(ttl).build())
    }

    pub(super) async fn get(&self, app_id: &AppId) -> Option<Arc<App>> {
        self.0.get(app_id).await
    }

    pub(super) async fn insert(&self, app: Arc<App>) {
        self.0.insert(app.application.app_id.clone(), app).await;
    }

    /// Drops an entry, so that the next look goes to the store.
    pub(super) async fn invalidate(&self, app_id: &AppId) {
        self.0.invalidate(app_id).await;
    }
}
