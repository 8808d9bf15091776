use std::num::NonZeroU32;

use async_trait::async_trait;
use larkauth_models::{KeyAccess, Timestamp};
use uuid::Uuid;

use crate::{AuditEntry, Result};

/// A key of the REST API. Only the SHA-256 of the key is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Public identifier.
    pub id: Uuid,
    /// Name given by its owner.
    pub name: String,
    /// Operations that the key permits.
    pub scopes: Vec<String>,
    /// What the key may reach beside its scopes.
    pub access: KeyAccess,
    /// Most requests in a minute; `None` for no limit of its own.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of revocation; requests with the key are refused from then on.
    pub revoked_at: Option<Timestamp>,
    /// End of the key's life; requests with the key are refused from then on.
    pub expires_at: Option<Timestamp>,
    /// Time of the last request, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// Returns whether requests with the key are accepted.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// API keys. A call that takes an [`AuditEntry`] writes it in the same transaction, if it changes something.
#[async_trait]
pub trait ApiKeys {
    /// Stores a new key's hash.
    async fn put_api_key(&self, key: &ApiKey, sha256: &[u8; 32], audit: &AuditEntry) -> Result<()>;
    /// Finds a key by its hash, unless it is revoked. An expired key is found.
    async fn api_key(&self, sha256: &[u8; 32]) -> Result<Option<ApiKey>>;
    /// Finds a key by its id, unless it is revoked. An expired key is found.
    async fn api_key_by_id(&self, id: Uuid) -> Result<Option<ApiKey>>;
    /// Lists all keys, revoked ones too, oldest first.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;
    /// Revokes a key at the time of the record. Returns false when the key is unknown or already revoked.
    async fn revoke_api_key(&self, id: Uuid, audit: &AuditEntry) -> Result<bool>;
    /// Stores `successor` and ends the key `id` at `until`, or at its own end if that comes first, in one transaction.
    /// Returns false, and stores nothing, when the key `id` is unknown, revoked, or expired at the time of the record.
    async fn rotate_api_key(
        &self,
        id: Uuid,
        until: Timestamp,
        successor: &ApiKey,
        sha256: &[u8; 32],
        audit: &AuditEntry,
    ) -> Result<bool>;
    /// Records that a key was used, at most once a minute.
    async fn touch_api_key(&self, id: Uuid, now: Timestamp) -> Result<()>;
}
