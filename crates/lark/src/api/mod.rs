//! The HTTP API, one method per call.
//!
//! To add a call: give it an `Api` constant and a method in the file of its topic, choose
//! `Repeat::Safe` only if sending it twice does no more than sending it once, and read the answer
//! into a type whose fields are optional wherever a permission decides about them.

mod app_token;
mod call;
mod message;
mod oauth;
mod person;
mod rate_limiter;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use larkauth_models::{AppId, Clock, SecretString};
use url::Url;

pub use message::{MAX_CARD_BYTES, Receiver};
pub use oauth::{AuthorizeRequest, CodeGrant, DeviceAuthorization, pkce_challenge};
pub use person::{AccountStatus, Contact};

/// The hosts of one of Lark's clouds, or of a simulator. A path in them is kept as a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Of the API.
    pub base_url: Url,
    /// Of the pages where people consent, and of the device flow.
    pub accounts_url: Url,
}

/// Watches every HTTP call, each attempt of a repeated one by itself.
pub trait CallObserver: Send + Sync + 'static {
    /// A call ended. `outcome_label` is `ok` or one of [`LarkError::label`](crate::LarkError::label)'s.
    fn called(&self, app_id: &AppId, api: &'static str, outcome_label: &str, took: Duration);

    /// May add headers, `traceparent` above all. Runs inside the call's span.
    fn inject_headers(&self, _headers: &mut http::HeaderMap) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl CallObserver for NoObserver {
    fn called(&self, _: &AppId, _: &'static str, _: &str, _: Duration) {}
}

/// The client of one application. Cheap to clone; all clones share the application's own tokens.
#[derive(Clone)]
pub struct LarkClient {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    endpoints: Endpoints,
    app_id: AppId,
    app_secret: SecretString,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn CallObserver>,
    tenant_token: app_token::Slot,
    app_token: app_token::Slot,
    pace: rate_limiter::Pace,
}

impl LarkClient {
    /// A client for one application. `http` comes from [`http_client`](crate::http_client), which sets the deadlines.
    #[must_use]
    pub fn new(
        http: reqwest::Client,
        endpoints: Endpoints,
        app_id: AppId,
        app_secret: SecretString,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn CallObserver>,
    ) -> Self {
        let inner = Inner {
            http,
            endpoints,
            app_id,
            app_secret,
            clock,
            observer,
            tenant_token: app_token::Slot::default(),
            app_token: app_token::Slot::default(),
            pace: rate_limiter::Pace::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The application.
    #[must_use]
    pub fn app_id(&self) -> &AppId {
        &self.inner.app_id
    }

    /// An address on the API host.
    fn api_url(&self, path: &str) -> Url {
        join(&self.inner.endpoints.base_url, path)
    }

    /// An address on the accounts host.
    fn accounts_url(&self, path: &str) -> Url {
        join(&self.inner.endpoints.accounts_url, path)
    }
}

impl fmt::Debug for LarkClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarkClient").field("app_id", &self.inner.app_id).finish_non_exhaustive()
    }
}

fn join(host: &Url, path: &str) -> Url {
    let mut url = host.clone();
    url.set_path(&format!("{}{path}", host.path().trim_end_matches('/')));
    url
}
