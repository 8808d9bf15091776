use async_trait::async_trait;
use larkauth_models::Timestamp;
use uuid::Uuid;

use crate::Result;

/// A key of the REST API. The key itself is not kept, only its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Public handle.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

/// API keys.
#[async_trait]
pub trait ApiKeys {
    /// Stores a new key's hash.
    async fn put_api_key(&self, key: &ApiKey, sha256: &[u8; 32]) -> Result<()>;
    /// Finds a key that is not revoked.
    async fn api_key(&self, sha256: &[u8; 32]) -> Result<Option<ApiKey>>;
    /// All of them, oldest first.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;
    /// Refuses a key from now on. False when there is no such living key.
    async fn revoke_api_key(&self, id: Uuid, now: Timestamp) -> Result<bool>;
}
