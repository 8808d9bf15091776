//! Tokens and profiles: what is kept of a person once they consented.

use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, StoredToken, Timestamp, TokenKind, UserProfile};
use sqlx::{query, query_as};

use super::PgStore;
use crate::{
    Profiles, Result, Tokens,
    rows::{ProfileRow, TokenRow},
};

#[async_trait]
impl Tokens for PgStore {
    async fn token(&self, app_id: &AppId, open_id: &OpenId, kind: TokenKind) -> Result<Option<StoredToken>> {
        let row = self
            .call("reading a token", async |db| {
                query_as!(
                    TokenRow,
                    "select app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                            refresh_expires_at, scopes, issued_at, granted_at, generation, status
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
        now: Timestamp,
    ) -> Result<bool> {
        let done = self
            .call("revoking a token", async |db| {
                // The generation moves on, so that a refresh under way cannot bring the token back.
                query!(
                    "update access_tokens set
                         status = 'revoked', revoked_at = $4, generation = generation + 1,
                         access_token_sealed = null, refresh_token_sealed = null,
                         lease_owner = null, lease_until = null, next_attempt_at = null
                     where app_id = $1 and open_id = $2 and kind = $3 and status <> 'revoked'",
                    app_id.as_str(),
                    open_id.as_str(),
                    kind.as_str(),
                    now
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

#[async_trait]
impl Profiles for PgStore {
    async fn profile(&self, app_id: &AppId, open_id: &OpenId) -> Result<Option<UserProfile>> {
        let row = self
            .call("reading a profile", async |db| {
                query_as!(
                    ProfileRow,
                    "select app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed, mobile_sealed,
                            tenant_key
                     from user_profiles where app_id = $1 and open_id = $2",
                    app_id.as_str(),
                    open_id.as_str()
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }
}
