use std::num::NonZeroU32;

use larkauth_models::{KeyAccess, Timestamp};
use uuid::Uuid;

use crate::ApiKey;

/// A row of `api_keys`, without the hash.
pub struct ApiKeyRow {
    pub key_id: Uuid,
    pub name: String,
    pub scopes: Vec<String>,
    pub app_ids: Vec<String>,
    pub lark_scopes: Vec<String>,
    pub requests_per_minute: Option<i64>,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

impl ApiKeyRow {
    pub fn into_model(self) -> ApiKey {
        ApiKey {
            id: self.key_id,
            name: self.name,
            scopes: self.scopes,
            access: KeyAccess { app_ids: self.app_ids, lark_scopes: self.lark_scopes },
            // A number beyond the range limits as much as the largest one.
            requests_per_minute: self
                .requests_per_minute
                .and_then(|n| NonZeroU32::new(u32::try_from(n.max(1)).unwrap_or(u32::MAX))),
            created_at: self.created_at,
            revoked_at: self.revoked_at,
            expires_at: self.expires_at,
            last_used_at: self.last_used_at,
        }
    }
}
