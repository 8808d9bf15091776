use std::{sync::Arc, time::Duration};

use larkauth_lark::api::{
    CallObserver, Endpoints, LarkClient, LarkClientOptions, LocalRateLimiter, RateLimiter,
};
use larkauth_models::{AppId, Application, Brand, Clock, ExposeSecret, Timestamp};
use larkauth_storage::Store;
use larkauth_telemetry::{Metrics, propagation};
use moka::future::Cache;

use crate::AuthError;

/// How Lark is reached.
#[derive(Clone, Debug)]
pub struct LarkSettings {
    /// The shared HTTP client, with its deadlines.
    pub http: reqwest::Client,
    /// The hosts of [`Brand::Feishu`].
    pub feishu: Endpoints,
    /// The hosts of [`Brand::Lark`].
    pub lark: Endpoints,
}

impl LarkSettings {
    /// The hosts of one cloud.
    #[must_use]
    pub const fn endpoints(&self, brand: Brand) -> &Endpoints {
        match brand {
            Brand::Feishu => &self.feishu,
            Brand::Lark => &self.lark,
        }
    }
}

/// An application and the client that speaks for it.
#[derive(Clone)]
pub struct App {
    /// As registered.
    pub application: Application,
    /// Holds the tenant token, so it outlives reloads of the registration.
    pub client: LarkClient,
}

/// Registered applications, remembered for a few seconds; a change made elsewhere is seen after that.
pub struct Directory {
    store: Arc<dyn Store>,
    lark: LarkSettings,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Shared by all clients, so that a client with a new secret continues the count of its application.
    rate_limiter: Arc<dyn RateLimiter>,
    recent: Cache<AppId, Arc<App>>,
    clients: Cache<(AppId, [u8; 32]), LarkClient>,
}

/// How long a registration is believed without a look at the store.
const BELIEVED_FOR: Duration = Duration::from_secs(10);
/// More applications than this, and the least used are looked up again.
const REMEMBERED: u64 = 1_000;
/// How long the breaker keeps everybody out; after that an invitation may try whether Lark is content again.
const FROZEN_FOR: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

impl Directory {
    /// Looks applications up in the store and reaches Lark as told.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, lark: LarkSettings, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self {
            store,
            lark,
            clock,
            metrics,
            rate_limiter: Arc::new(LocalRateLimiter::default()),
            recent: Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED_FOR).build(),
            clients: Cache::builder().max_capacity(REMEMBERED).build(),
        }
    }

    /// How Lark is reached.
    #[must_use]
    pub const fn lark(&self) -> &LarkSettings {
        &self.lark
    }

    /// One application, whatever its state.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], or the store's.
    pub async fn any(&self, app_id: &AppId) -> Result<Arc<App>, AuthError> {
        if let Some(app) = self.recent.get(app_id).await {
            return Ok(app);
        }
        let application =
            self.store.application(app_id).await?.ok_or_else(|| AuthError::AppNotFound(app_id.clone()))?;
        let client = self.client(&application).await;
        let app = Arc::new(App { application, client });
        self.recent.insert(app_id.clone(), app.clone()).await;
        Ok(app)
    }

    /// One application that is switched on.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], [`AuthError::AppDisabled`], or the store's.
    pub async fn enabled(&self, app_id: &AppId) -> Result<Arc<App>, AuthError> {
        let app = self.any(app_id).await?;
        if app.application.enabled { Ok(app) } else { Err(AuthError::AppDisabled(app_id.clone())) }
    }

    /// One application that may invite people now.
    ///
    /// # Errors
    /// As [`Directory::enabled`], and [`AuthError::AppFrozen`] while the breaker is open.
    pub async fn inviting(&self, app_id: &AppId) -> Result<Arc<App>, AuthError> {
        let app = self.enabled(app_id).await?;
        if !self.is_frozen(&app) {
            return Ok(app);
        }
        // Somebody may have mended it a moment ago: a refusal is never given from memory.
        self.recent.invalidate(app_id).await;
        let app = self.enabled(app_id).await?;
        if self.is_frozen(&app) {
            let reason = app.application.frozen_reason.clone().unwrap_or_default();
            return Err(AuthError::AppFrozen { app_id: app_id.clone(), reason });
        }
        Ok(app)
    }

    fn is_frozen(&self, app: &App) -> bool {
        app.application.frozen_since.is_some_and(|since| self.clock.now() - since < FROZEN_FOR)
    }

    /// Opens the app-level breaker: Lark refuses the application, no person is to blame.
    ///
    /// # Errors
    /// The store's.
    pub async fn freeze(&self, app_id: &AppId, reason: &str, now: Timestamp) -> Result<(), AuthError> {
        // Refused again by the one that was let through: the breaker's time begins anew.
        let application = self.store.application(app_id).await?;
        if application.and_then(|known| known.frozen_since).is_some_and(|since| now - since >= FROZEN_FOR) {
            self.store.set_application_frozen(app_id, None, now).await?;
        }
        if self.store.set_application_frozen(app_id, Some(reason), now).await? {
            tracing::error!(%app_id, reason, "auth.app.frozen: Lark refuses the application, nobody is invited until it is mended");
        }
        self.recent.invalidate(app_id).await;
        Ok(())
    }

    /// Closes the breaker after Lark accepted the application.
    ///
    /// # Errors
    /// The store's.
    pub async fn thaw(&self, app: &App, now: Timestamp) -> Result<(), AuthError> {
        if app.application.frozen_since.is_some() {
            let app_id = &app.application.app_id;
            if self.store.set_application_frozen(app_id, None, now).await? {
                tracing::info!(%app_id, "auth.app.thawed: Lark accepts the application again");
            }
            self.recent.invalidate(app_id).await;
        }
        Ok(())
    }

    async fn client(&self, application: &Application) -> LarkClient {
        let app_id = &application.app_id;
        let key = (
            app_id.clone(),
            crate::seal::digest(&[application.brand.as_str(), application.app_secret.expose_secret()]),
        );
        if let Some(client) = self.clients.get(&key).await {
            return client;
        }
        let client = LarkClient::new(LarkClientOptions {
            http: self.lark.http.clone(),
            endpoints: self.lark.endpoints(application.brand).clone(),
            app_id: app_id.clone(),
            app_secret: application.app_secret.clone(),
            clock: self.clock.clone(),
            observer: Arc::new(Calls(self.metrics.clone())),
            rate_limiter: self.rate_limiter.clone(),
        });
        // Two tasks may get here at once; both then use the one that is kept.
        self.clients.get_with(key, async { client }).await
    }
}

/// Counts calls to Lark and sends the trace along.
struct Calls(Metrics);

impl CallObserver for Calls {
    fn called(&self, app_id: &AppId, api: &'static str, outcome: &str, took: Duration) {
        self.0.lark_api_called(app_id.as_str(), api, outcome, took);
    }
    fn inject_headers(&self, headers: &mut reqwest::header::HeaderMap) {
        propagation::inject_headers(headers);
    }
}
