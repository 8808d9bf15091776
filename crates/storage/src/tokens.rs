use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, StoredToken, TokenKind};

use crate::{AuditEntry, Result};

/// Tokens.
#[async_trait]
pub trait Tokens {
    /// Returns the token of a person in any status but revoked.
    async fn token(&self, app_id: &AppId, open_id: &OpenId, kind: TokenKind) -> Result<Option<StoredToken>>;
    /// Revokes a token at the time of the record: deletes its secrets and stops its refresh. Returns false, and writes no
    /// record, when there is no token to revoke.
    async fn revoke_token(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        kind: TokenKind,
        audit: &AuditEntry,
    ) -> Result<bool>;
}
