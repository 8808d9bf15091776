use async_trait::async_trait;
use larkauth_models::Timestamp;
use sqlx::{Connection, PgConnection, query, query_as};
use uuid::Uuid;

use larkauth_storage::{ApiKey, ApiKeys, AuditEntry, Result, backend::rows::ApiKeyRow};

use crate::{
    audit::{record, recorded},
    store::PgStore,
};

/// Queries keys.
macro_rules! keys {
    ($which:literal $(, $argument:expr)*) => {
        query_as!(
            ApiKeyRow,
            "select key_id, name, scopes, app_ids, lark_scopes, requests_per_minute, created_at, revoked_at,
                expires_at, last_used_at
             from api_keys " + $which
            $(, $argument)*
        )
    };
}

#[async_trait]
impl ApiKeys for PgStore {
    async fn put_api_key(&self, key: &ApiKey, sha256: &[u8; 32], audit: &AuditEntry) -> Result<()> {
        self.call("writing an API key", async |db| {
            let mut tx = db.begin().await?;
            insert(&mut tx, key, sha256).await?;
            record(&mut tx, audit).await?;
            tx.commit().await
        })
        .await
    }

    async fn api_key(&self, sha256: &[u8; 32]) -> Result<Option<ApiKey>> {
        let row = self
            .call("looking up an API key", async |db| {
                keys!("where key_sha256 = $1 and revoked_at is null", &sha256[..]).fetch_optional(db).await
            })
            .await?;
        Ok(row.map(ApiKeyRow::into_model))
    }

    async fn api_key_by_id(&self, id: Uuid) -> Result<Option<ApiKey>> {
        let row = self
            .call("looking up an API key by its id", async |db| {
                keys!("where key_id = $1 and revoked_at is null", id).fetch_optional(db).await
            })
            .await?;
        Ok(row.map(ApiKeyRow::into_model))
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        let rows = self
            .call("listing API keys", async |db| keys!("order by created_at, key_id").fetch_all(db).await)
            .await?;
        Ok(rows.into_iter().map(ApiKeyRow::into_model).collect())
    }

    async fn revoke_api_key(&self, id: Uuid, audit: &AuditEntry) -> Result<bool> {
        self.call("revoking an API key", async |db| {
            let mut tx = db.begin().await?;
            let done = query!(
                "update api_keys set revoked_at = $2 where key_id = $1 and revoked_at is null",
                id,
                audit.at
            )
            .execute(&mut *tx)
            .await?;
            recorded(tx, done, audit).await
        })
        .await
    }

    async fn rotate_api_key(
        &self,
        id: Uuid,
        until: Timestamp,
        successor: &ApiKey,
        sha256: &[u8; 32],
        audit: &AuditEntry,
    ) -> Result<bool> {
        self.call("rotating an API key", async |db| {
            let mut tx = db.begin().await?;
            let done = query!(
                "update api_keys set expires_at = least(expires_at, $2)
                 where key_id = $1 and revoked_at is null and (expires_at is null or expires_at > $3)",
                id,
                until,
                audit.at
            )
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
            insert(&mut tx, successor, sha256).await?;
            record(&mut tx, audit).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn touch_api_key(&self, id: Uuid, now: Timestamp) -> Result<()> {
        self.call("recording the use of an API key", async |db| {
            query!(
                "update api_keys set last_used_at = $2
                 where key_id = $1 and (last_used_at is null or last_used_at + interval '1 minute' <= $2)",
                id,
                now
            )
            .execute(db)
            .await
        })
        .await?;
        Ok(())
    }
}

async fn insert(db: &mut PgConnection, key: &ApiKey, sha256: &[u8; 32]) -> sqlx::Result<()> {
    query!(
        "insert into api_keys (key_id, name, scopes, key_sha256, app_ids, lark_scopes, requests_per_minute, created_at,
                               revoked_at, expires_at, last_used_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        key.id,
        key.name,
        &key.scopes,
        &sha256[..],
        &key.access.app_ids,
        &key.access.lark_scopes,
        key.requests_per_minute.map(|n| i64::from(n.get())),
        key.created_at,
        key.revoked_at,
        key.expires_at,
        key.last_used_at
    )
    .execute(db)
    .await?;
    Ok(())
}
