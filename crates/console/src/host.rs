use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::http::request::Parts;
use larkauth_auth::AuthError;
use larkauth_models::Origin;
use larkauth_storage::ApiKey;

/// What the console needs of the service that serves it: the API keys, and how a request came.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Returns the active key with this secret, as the REST API finds it.
    ///
    /// # Errors
    /// The store's.
    async fn authenticate(&self, secret: &str) -> Result<Option<Arc<ApiKey>>, AuthError>;
    /// Returns the active key with this SHA-256.
    ///
    /// # Errors
    /// The store's.
    async fn key(&self, sha256: &[u8; 32]) -> Result<Option<Arc<ApiKey>>, AuthError>;
    /// Counts a request of a key, together with those to the REST API. Returns the time to wait when the key's limit is
    /// reached.
    async fn count(&self, key: &ApiKey) -> Result<(), Duration>;
    /// Returns how a request came.
    fn reached(&self, parts: &Parts) -> Reached;
}

/// How a request came.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// The client, and the id of the request.
    pub origin: Origin,
    /// The client speaks TLS, to a proxy that is trusted.
    pub is_tls: bool,
    /// Host and port that the client asked for, as a trusted proxy tells or else the request.
    pub host: Option<String>,
}
