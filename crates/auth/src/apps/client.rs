use std::{fmt, sync::Arc, time::Duration};

use larkauth_lark::api::{CallObserver, Endpoints, LarkClient, LarkClientOptions, RateLimiter};
use larkauth_models::{AppId, Application, Brand, Clock, ExposeSecret};
use larkauth_net::Network;
use larkauth_telemetry::{Metrics, propagation};
use moka::future::Cache;

use super::cache::CACHE_CAPACITY;
use crate::seal;

/// How Lark is reached.
#[derive(Clone)]
pub struct LarkSettings {
    /// The shared HTTP client, with its deadlines.
    pub http: reqwest::Client,
    /// Trust and proxies of that client, for other connections.
    pub network: Network,
    /// The hosts of [`Brand::Feishu`].
    pub feishu: Endpoints,
    /// The hosts of [`Brand::Lark`].
    pub lark: Endpoints,
    /// Limits calls per application and endpoint class. One for all clients, so that a client with a new secret continues
    /// the count of its application.
    pub rate_limiter: Arc<dyn RateLimiter>,
}

impl fmt::Debug for LarkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarkSettings")
            .field("feishu", &self.feishu)
            .field("lark", &self.lark)
            .finish_non_exhaustive()
    }
}

impl LarkSettings {
    /// Returns the hosts of one cloud.
    #[must_use]
    pub const fn endpoints(&self, brand: Brand) -> &Endpoints {
        match brand {
            Brand::Feishu => &self.feishu,
            Brand::Lark => &self.lark,
        }
    }
}

/// Makes one client per application and secret, and keeps it: the client holds the application's own token.
pub(super) struct ClientFactory {
    pub(super) lark: LarkSettings,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    clients: Cache<(AppId, [u8; 32]), LarkClient>,
}

impl ClientFactory {
    pub(super) fn new(lark: LarkSettings, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let clients = Cache::builder().max_capacity(CACHE_CAPACITY).build();
        Self { lark, clock, metrics, clients }
    }

    /// Returns the client of an application as it is registered now.
    pub(super) async fn client(&self, application: &Application) -> LarkClient {
        let app_id = &application.app_id;
        let secret = application.app_secret.expose_secret();
        let key = (app_id.clone(), seal::digest(&[application.brand.as_str(), secret]));
        // Two tasks may get here at once; both then use the client that is kept.
        let made = async {
            LarkClient::new(LarkClientOptions {
                http: self.lark.http.clone(),
                endpoints: self.lark.endpoints(application.brand).clone(),
                app_id: app_id.clone(),
                app_secret: application.app_secret.clone(),
                clock: self.clock.clone(),
                observer: Arc::new(Calls(self.metrics.clone())),
                rate_limiter: self.lark.rate_limiter.clone(),
            })
        };
        self.clients.get_with(key, made).await
    }
}

/// Counts calls to Lark and propagates the trace.
struct Calls(Metrics);

impl CallObserver for Calls {
    fn called(&self, app_id: &AppId, api: &'static str, outcome: &str, took: Duration) {
        self.0.lark_api_called(app_id.as_str(), api, outcome, took);
    }
    fn inject_headers(&self, headers: &mut reqwest::header::HeaderMap) {
        propagation::inject_headers(headers);
    }
}
