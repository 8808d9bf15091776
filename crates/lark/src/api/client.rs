use std::{fmt, sync::Arc};

use larkauth_models::{AppId, Clock, Lane, SecretString};
use url::Url;

use super::{observer::CallObserver, rate_limiter::RateLimiter, token_cache::TokenCache};

/// The hosts of one of Lark's clouds, or of a simulator. A path in a URL is kept as a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Host of the API.
    pub base_url: Url,
    /// Host of the consent pages and of the device flow.
    pub accounts_url: Url,
}

/// The configuration of a [`LarkClient`].
pub struct LarkClientOptions {
    /// The HTTP client, from [`http_client`](crate::http_client), which sets the timeouts.
    pub http: reqwest::Client,
    /// The cloud that the application belongs to.
    pub endpoints: Endpoints,
    /// The application.
    pub app_id: AppId,
    /// The application's secret.
    pub app_secret: SecretString,
    /// The source of wall time, which token lifetimes are counted by.
    pub clock: Arc<dyn Clock>,
    /// The observer of every HTTP call; [`NoObserver`](super::NoObserver) ignores them.
    pub observer: Arc<dyn CallObserver>,
    /// The limiter that keeps calls below Lark's rate limits. All clients of one application must share the limiter.
    pub rate_limiter: Arc<dyn RateLimiter>,
}

/// The client of one application. Cheap to clone; all clones share the application's own tokens.
#[derive(Clone)]
pub struct LarkClient {
    pub(super) inner: Arc<Inner>,
    pub(super) admission: Admission,
}

/// How the calls of a client count against the rate limit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission {
    /// Each call waits in this lane.
    Lane(Lane),
    /// The caller has reserved the call and waited for its time.
    Reserved,
}

pub(super) struct Inner {
    pub(super) options: LarkClientOptions,
    pub(super) tenant_token: TokenCache,
    pub(super) app_token: TokenCache,
}

impl LarkClient {
    /// Creates a client. No call is made until the first method needs one.
    #[must_use]
    pub fn new(options: LarkClientOptions) -> Self {
        let inner = Inner { options, tenant_token: TokenCache::default(), app_token: TokenCache::default() };
        Self { inner: Arc::new(inner), admission: Admission::Lane(Lane::People) }
    }

    /// Returns a client whose calls wait in this lane of the rate limit. [`Lane::People`] unless chosen otherwise.
    #[must_use]
    pub fn in_lane(&self, lane: Lane) -> Self {
        Self { inner: self.inner.clone(), admission: Admission::Lane(lane) }
    }

    /// Returns a client for one call that was counted by [`RateLimiter::reserve`] and whose time has come.
    #[must_use]
    pub fn reserved(&self) -> Self {
        Self { inner: self.inner.clone(), admission: Admission::Reserved }
    }

    /// Returns the application's id.
    #[must_use]
    pub fn app_id(&self) -> &AppId {
        &self.options().app_id
    }

    pub(super) fn options(&self) -> &LarkClientOptions {
        &self.inner.options
    }

    /// Returns a URL on the API host.
    pub(super) fn api_url(&self, path: &str) -> Url {
        join(&self.options().endpoints.base_url, path)
    }

    /// Returns a URL on the accounts host.
    pub(super) fn accounts_url(&self, path: &str) -> Url {
        join(&self.options().endpoints.accounts_url, path)
    }
}

impl fmt::Debug for LarkClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarkClientOptions")
            .field("endpoints", &self.endpoints)
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LarkClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarkClient").field("app_id", self.app_id()).finish_non_exhaustive()
    }
}

fn join(host: &Url, path: &str) -> Url {
    let mut url = host.clone();
    url.set_path(&format!("{}{path}", host.path().trim_end_matches('/')));
    url
}
