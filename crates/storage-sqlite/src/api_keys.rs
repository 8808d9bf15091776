use async_trait::async_trait;
use larkauth_models::Timestamp;
use sqlx::{query, query_as, types::Json};
use uuid::Uuid;

use larkauth_storage::{ApiKey, ApiKeys, Result};

use crate::{
    columns::{Id, Micros, OptionalMicros, Texts},
    store::SqliteStore,
};

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn put_api_key(&self, key: &ApiKey, sha256: &[u8; 32]) -> Result<()> {
        self.write("writing an API key", async |db| {
            query!(
                "insert into api_keys (key_id, name, scopes, key_sha256, created_at, revoked_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6)",
                key.id.hyphenated(),
                &key.name,
                Json(&key.scopes),
                &sha256[..],
                key.created_at.timestamp_micros(),
                key.revoked_at.map(|at| at.timestamp_micros())
            )
            .execute(db)
            .await
        })
        .await?;
        Ok(())
    }

    async fn api_key(&self, sha256: &[u8; 32]) -> Result<Option<ApiKey>> {
        self.read("looking up an API key", async |db| {
            query_as!(ApiKey, r#"select key_id as "id!: Id", name, scopes as "scopes!: Texts", created_at as "created_at!: Micros",
                          revoked_at as "revoked_at!: OptionalMicros"
                   from api_keys where key_sha256 = ?1 and revoked_at is null"#, &sha256[..]).fetch_optional(db).await
        })
        .await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.read("listing API keys", async |db| {
            query_as!(ApiKey, r#"select key_id as "id!: Id", name, scopes as "scopes!: Texts", created_at as "created_at!: Micros",
                          revoked_at as "revoked_at!: OptionalMicros"
                   from api_keys order by created_at, key_id"#)
            .fetch_all(db)
            .await
        })
        .await
    }

    async fn revoke_api_key(&self, id: Uuid, now: Timestamp) -> Result<bool> {
        let done = self
            .write("revoking an API key", async |db| {
                query!(
                    "update api_keys set revoked_at = ?2 where key_id = ?1 and revoked_at is null",
                    id.hyphenated(),
                    now.timestamp_micros()
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
