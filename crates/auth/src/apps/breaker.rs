use std::sync::Arc;

use chrono::TimeDelta;
use larkauth_models::{AppId, Application, Timestamp};
use larkauth_storage::Store;

use super::{app::App, cache::AppCache};
use crate::error::AuthError;

/// The application-level breaker. It is open while Lark refuses an application, which is no person's fault. Its state is
/// in the store, so all processes share it.
pub(crate) struct Breaker {
    store: Arc<dyn Store>,
    cache: AppCache,
    open_for: TimeDelta,
}

impl Breaker {
    pub(super) fn new(store: Arc<dyn Store>, cache: AppCache, open_for: TimeDelta) -> Self {
        Self { store, cache, open_for }
    }

    /// Returns whether the breaker refuses invitations now.
    pub(super) fn is_open(&self, application: &Application, now: Timestamp) -> bool {
        application.frozen_since.is_some_and(|since| now - since < self.open_for)
    }

    /// Opens the breaker.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn open(&self, app_id: &AppId, reason: &str, now: Timestamp) -> Result<(), AuthError> {
        // The invitation that was let through was refused again: the breaker's time begins anew.
        let application = self.store.application(app_id).await?;
        if application.and_then(|known| known.frozen_since).is_some_and(|since| now - since >= self.open_for)
        {
            self.store.set_application_frozen(app_id, None, now).await?;
        }
        if self.store.set_application_frozen(app_id, Some(reason), now).await? {
            tracing::error!(
                %app_id, reason,
                "auth.app.breaker_opened: Lark refuses the application; no person is invited until it accepts it again"
            );
        }
        self.cache.invalidate(app_id).await;
        Ok(())
    }

    /// Closes the breaker after Lark accepted the application.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn close(&self, app: &App, now: Timestamp) -> Result<(), AuthError> {
        if app.application.frozen_since.is_some() {
            let app_id = &app.application.app_id;
            if self.store.set_application_frozen(app_id, None, now).await? {
                tracing::info!(%app_id, "auth.app.breaker_closed: Lark accepts the application again");
            }
            self.cache.invalidate(app_id).await;
        }
        Ok(())
    }
}
