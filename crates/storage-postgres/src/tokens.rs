use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, StoredToken, TokenKind};
use sqlx::{Connection, query, query_as};

use larkauth_storage::{AuditEntry, Result, Tokens, backend::rows::TokenRow};

use crate::{audit::recorded, session_mode::SessionMode, store::PgStore};

#[async_trait]
impl Tokens for PgStore {
    async fn token(&self, app_id: &AppId, open_id: &OpenId, kind: TokenKind) -> Result<Option<StoredToken>> {
        if kind == TokenKind::User && matches!(self.mode, SessionMode::Own) {
            let row = self.tokens.read(app_id, open_id).await?;
            return row.map(|row| row.into_model(&self.cipher)).transpose();
        }
        let row = self
            .call("reading a token", async |db| {
                query_as!(
                    TokenRow,
                    "select app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                            refresh_expires_at, scopes, issued_at, granted_at, generation, status, failures, next_attempt_at,
                            last_used_at
                     from access_tokens
                     where app_id = $1 and open_id = $2 and kind = $3 and status <> 'revoked'",
                    app_id.as_str(),
                    open_id.as_str(),
                    kind.as_str()
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }

    async fn revoke_token(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        kind: TokenKind,
        audit: &AuditEntry,
    ) -> Result<bool> {
        self.call("revoking a token", async |db| {
            let mut tx = db.begin().await?;
            // The generation is raised, so that a running refresh cannot store the token again.
            let done = query!(
                "update access_tokens set
                     status = 'revoked', revoked_at = $4, generation = generation + 1,
                     access_token_sealed = null, refresh_token_sealed = null,
                     lease_owner = null, lease_until = null, next_attempt_at = null
                 where app_id = $1 and open_id = $2 and kind = $3 and status <> 'revoked'",
                app_id.as_str(),
                open_id.as_str(),
                kind.as_str(),
                audit.at
            )
            .execute(&mut *tx)
            .await?;
            recorded(tx, done, audit).await
        })
        .await
    }
}
