use async_trait::async_trait;
use larkauth_models::Timestamp;
use larkauth_sqlite::BEGIN_WRITING;
use sqlx::{Connection, SqliteConnection, query, query_as, types::Json};
use uuid::Uuid;

use larkauth_storage::{ApiKey, ApiKeys, AuditEntry, Result, backend::rows::ApiKeyRow};

use crate::{
    audit::{record, recorded},
    columns::{Id, Micros, OptionalMicros, Texts, micros},
    store::SqliteStore,
};

/// Least time between two records of use: 1 minute.
const TOUCH_INTERVAL_MICROS: i64 = 60_000_000;

/// Queries keys.
macro_rules! keys {
    ($which:literal $(, $argument:expr)*) => {
        query_as!(
            ApiKeyRow,
            r#"select key_id as "key_id!: Id", name, scopes as "scopes!: Texts", app_ids as "app_ids!: Texts",
                  lark_scopes as "lark_scopes!: Texts", requests_per_minute, created_at as "created_at!: Micros",
                  revoked_at as "revoked_at!: OptionalMicros", expires_at as "expires_at!: OptionalMicros",
                  last_used_at as "last_used_at!: OptionalMicros"
               from api_keys "# + $which
            $(, $argument)*
        )
    };
}

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn put_api_key(&self, key: &ApiKey, sha256: &[u8; 32], audit: &AuditEntry) -> Result<()> {
        self.write("writing an API key", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            insert(&mut tx, key, sha256).await?;
            record(&mut tx, audit).await?;
            tx.commit().await
        })
        .await
    }

    async fn api_key(&self, sha256: &[u8; 32]) -> Result<Option<ApiKey>> {
        let row = self
            .read("looking up an API key", async |db| {
                keys!("where key_sha256 = ?1 and revoked_at is null", &sha256[..]).fetch_optional(db).await
            })
            .await?;
        Ok(row.map(ApiKeyRow::into_model))
    }

    async fn api_key_by_id(&self, id: Uuid) -> Result<Option<ApiKey>> {
        let row = self
            .read("looking up an API key by its id", async |db| {
                keys!("where key_id = ?1 and revoked_at is null", id.hyphenated()).fetch_optional(db).await
            })
            .await?;
        Ok(row.map(ApiKeyRow::into_model))
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        let rows = self
            .read("listing API keys", async |db| keys!("order by created_at, key_id").fetch_all(db).await)
            .await?;
        Ok(rows.into_iter().map(ApiKeyRow::into_model).collect())
    }

    async fn revoke_api_key(&self, id: Uuid, audit: &AuditEntry) -> Result<bool> {
        self.write("revoking an API key", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let done = query!(
                "update api_keys set revoked_at = ?2 where key_id = ?1 and revoked_at is null",
                id.hyphenated(),
                micros(audit.at)
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
        self.write("rotating an API key", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let done = query!(
                "update api_keys set expires_at = min(coalesce(expires_at, ?2), ?2)
                 where key_id = ?1 and revoked_at is null and (expires_at is null or expires_at > ?3)",
                id.hyphenated(),
                until.timestamp_micros(),
                micros(audit.at)
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
        let before = now.timestamp_micros() - TOUCH_INTERVAL_MICROS;
        self.write("recording the use of an API key", async |db| {
            query!(
                "update api_keys set last_used_at = ?2
                 where key_id = ?1 and (last_used_at is null or last_used_at <= ?3)",
                id.hyphenated(),
                now.timestamp_micros(),
                before
            )
            .execute(db)
            .await
        })
        .await?;
        Ok(())
    }
}

async fn insert(db: &mut SqliteConnection, key: &ApiKey, sha256: &[u8; 32]) -> sqlx::Result<()> {
    query!(
        "insert into api_keys (key_id, name, scopes, key_sha256, app_ids, lark_scopes, requests_per_minute, created_at,
                               revoked_at, expires_at, last_used_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        key.id.hyphenated(),
        &key.name,
        Json(&key.scopes),
        &sha256[..],
        Json(&key.access.app_ids),
        Json(&key.access.lark_scopes),
        key.requests_per_minute.map(|n| i64::from(n.get())),
        micros(key.created_at),
        key.revoked_at.map(micros),
        key.expires_at.map(micros),
        key.last_used_at.map(micros)
    )
    .execute(db)
    .await?;
    Ok(())
}
