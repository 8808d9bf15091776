use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use larkauth_models::AppId;
use moka::{Expiry, future::Cache};
use tokio::time::timeout;

use super::{app::App, cache::CACHE_CAPACITY};

/// Longest wait for a name: an invitation without it is better than a late one.
const DEADLINE: Duration = Duration::from_millis(1500);
/// How long a name is kept.
const KNOWN: Duration = Duration::from_secs(600);
/// How long it is kept that Lark gave no name.
const UNKNOWN: Duration = Duration::from_secs(60);

/// The names of applications at Lark. Clones share the entries.
#[derive(Clone)]
pub(super) struct AppNames(Cache<AppId, Option<Arc<str>>>);

impl AppNames {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(CACHE_CAPACITY).expire_after(ByResult).build())
    }

    /// Returns the name of an application, from Lark or as it was kept.
    pub(super) async fn get(&self, app: &App) -> Option<Arc<str>> {
        let app_id = &app.application.app_id;
        let ask = async {
            match timeout(DEADLINE, app.client.bot_name()).await {
                Ok(Ok(name)) => Some(name.into()),
                Ok(Err(error)) => {
                    tracing::info!(%app_id, %error, "auth.app.name: cards call the application \"this app\"");
                    None
                }
                Err(_) => {
                    tracing::info!(%app_id, "auth.app.name: Lark did not tell it in time, cards call the application \"this app\"");
                    None
                }
            }
        };
        self.0.get_with(app_id.clone(), ask).await
    }
}

struct ByResult;

impl Expiry<AppId, Option<Arc<str>>> for ByResult {
    fn expire_after_create(&self, _: &AppId, name: &Option<Arc<str>>, _: Instant) -> Option<Duration> {
        Some(if name.is_some() { KNOWN } else { UNKNOWN })
    }
}
