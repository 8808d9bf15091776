use async_trait::async_trait;
use larkauth_models::Timestamp;
use uuid::Uuid;

use crate::Result;

/// A key of the REST API. Only the SHA-256 of the key is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Public identifier.
    pub id: Uuid,
    /// Name given by its owner.
    pub name: String,
    /// Operations that the key permits.
    pub scopes: Vec<String>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of revocation; requests with the key are refused from then on.
    pub revoked_at: Option<Timestamp>,
}

/// API keys.
#[async_trait]
pub trait ApiKeys {
    /// Stores a new key's hash.
    async fn put_api_key(&self, key: &ApiKey, sha256: &[u8; 32]) -> Result<()>;
    /// Finds a key by its hash, unless it is revoked.
    async fn api_key(&self, sha256: &[u8; 32]) -> Result<Option<ApiKey>>;
    /// Lists all keys, revoked ones too, oldest first.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;
    /// Revokes a key. Returns false when the key is unknown or already revoked.
    async fn revoke_api_key(&self, id: Uuid, now: Timestamp) -> Result<bool>;
}
