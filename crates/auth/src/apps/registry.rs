use std::sync::Arc;

use chrono::TimeDelta;
use larkauth_models::{AppId, Clock};
use larkauth_storage::{StorageError, Store};
use larkauth_telemetry::Metrics;

use super::{
    app::App,
    breaker::Breaker,
    cache::AppCache,
    client::{ClientFactory, LarkSettings},
    names::AppNames,
};
use crate::{error::AuthError, policy::Policy};

/// Registered applications with their clients, cached for [`Policy::app_cache_ttl`].
pub struct AppRegistry {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    clients: ClientFactory,
    cache: AppCache,
    names: AppNames,
    breaker: Breaker,
}

impl AppRegistry {
    /// Looks applications up in the store and reaches Lark as `lark` says.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        lark: LarkSettings,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        policy: &Policy,
    ) -> Self {
        let cache = AppCache::new(policy.app_cache_ttl);
        let open_for = TimeDelta::from_std(policy.breaker_open).unwrap_or(TimeDelta::MAX);
        Self {
            breaker: Breaker::new(store.clone(), cache.clone(), open_for),
            clients: ClientFactory::new(lark, clock.clone(), metrics),
            store,
            clock,
            cache,
            names: AppNames::new(),
        }
    }

    /// Returns how Lark is reached.
    #[must_use]
    pub const fn lark(&self) -> &LarkSettings {
        &self.clients.lark
    }

    pub(crate) const fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Returns the name of an application at Lark. `None` when Lark does not tell it soon.
    pub(crate) async fn name(&self, app: &App) -> Option<Arc<str>> {
        self.names.get(app).await
    }

    /// Drops what is cached of an application, after a change of its registration.
    pub(crate) async fn invalidate(&self, app_id: &AppId) {
        self.cache.invalidate(app_id).await;
    }

    /// Returns one application in any state.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], or the store's.
    pub async fn get(&self, app_id: &AppId) -> Result<Arc<App>, AuthError> {
        if let Some(app) = self.cache.get(app_id).await {
            return Ok(app);
        }
        if self.cache.is_unknown(app_id).await {
            return Err(AuthError::AppNotFound(app_id.clone()));
        }
        let Some(application) = self.store.application(app_id).await? else {
            self.cache.insert_unknown(app_id.clone()).await;
            return Err(AuthError::AppNotFound(app_id.clone()));
        };
        let client = self.clients.client(&application).await;
        let app = Arc::new(App { application, client });
        self.cache.insert(app.clone()).await;
        Ok(app)
    }

    /// Returns one application that is enabled.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], [`AuthError::AppDisabled`], or the store's.
    pub async fn get_enabled(&self, app_id: &AppId) -> Result<Arc<App>, AuthError> {
        let app = self.get(app_id).await?;
        if app.application.enabled { Ok(app) } else { Err(AuthError::AppDisabled(app_id.clone())) }
    }

    /// Returns whether an application is enabled, from the store and not from the cache.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], or the store's.
    pub(crate) async fn is_enabled_now(&self, app_id: &AppId) -> Result<bool, AuthError> {
        self.cache.invalidate(app_id).await;
        match self.get(app_id).await {
            Ok(app) => Ok(app.application.enabled),
            // Its secrets need a key that is missing. Whether it is enabled does not.
            Err(AuthError::Storage(StorageError::Undecryptable { .. })) => {
                let registrations = self.store.applications().await?;
                let registration = registrations.into_iter().find(|found| found.app_id == *app_id);
                registration.map(|found| found.enabled).ok_or_else(|| AuthError::AppNotFound(app_id.clone()))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns whether an application is enabled, from the store. That there is none may be known from a moment ago.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], or the store's.
    pub(crate) async fn read_enabled(&self, app_id: &AppId) -> Result<bool, AuthError> {
        if self.cache.is_unknown(app_id).await {
            return Err(AuthError::AppNotFound(app_id.clone()));
        }
        self.is_enabled_now(app_id).await
    }

    /// Returns one application that may invite people now.
    ///
    /// # Errors
    /// As [`AppRegistry::get_enabled`], and [`AuthError::AppFrozen`] while the breaker is open.
    pub async fn get_for_invitation(&self, app_id: &AppId) -> Result<Arc<App>, AuthError> {
        let app = self.get_enabled(app_id).await?;
        let now = self.clock.now();
        if !self.breaker.is_open(&app.application, now) {
            return Ok(app);
        }
        // An operator may have corrected the application a moment ago: a refusal never comes from the cache.
        self.cache.invalidate(app_id).await;
        let app = self.get_enabled(app_id).await?;
        if self.breaker.is_open(&app.application, now) {
            let reason = app.application.frozen_reason.clone().unwrap_or_default();
            return Err(AuthError::AppFrozen { app_id: app_id.clone(), reason });
        }
        Ok(app)
    }
}
