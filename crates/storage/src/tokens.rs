use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, StoredToken, Timestamp, TokenKind};

use crate::Result;

/// Tokens.
#[async_trait]
pub trait Tokens {
    /// The one live token, whatever its status; a revoked one is not live.
    async fn token(&self, app_id: &AppId, open_id: &OpenId, kind: TokenKind) -> Result<Option<StoredToken>>;
    /// Forgets: wipes the secrets and stops refreshing. True when there was something to forget.
    async fn revoke_token(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        kind: TokenKind,
        now: Timestamp,
    ) -> Result<bool>;
}
