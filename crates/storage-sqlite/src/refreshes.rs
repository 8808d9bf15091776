use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, Timestamp};
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    LeasedToken, RefreshClaim, RefreshEnd, RefreshedToken, Refreshes, Result,
    backend::{
        claims,
        rows::{LeasedRow, leased},
        sealed::SealedPair,
    },
};
use sqlx::{Connection, SqliteConnection, query, query_as, query_scalar, types::Json};
use uuid::Uuid;

use crate::{
    columns::{Micros, OptionalMicros, Texts, micros},
    store::SqliteStore,
};

#[async_trait]
impl Refreshes for SqliteStore {
    async fn claim_refresh(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        owner: Uuid,
        life: Duration,
    ) -> Result<RefreshClaim> {
        const DURING: &str = "taking the lease of a token";
        let row = self
            .write(DURING, async |db| {
                let mut tx = db.begin_with(BEGIN_WRITING).await?;
                let row = query_as!(
                    LeasedRow,
                    r#"select app_id as "app_id!", open_id as "open_id!", kind as "kind!", access_token_sealed,
                           access_expires_at as "access_expires_at!: Micros", refresh_token_sealed,
                           refresh_expires_at as "refresh_expires_at!: OptionalMicros", scopes as "scopes!: Texts",
                           issued_at as "issued_at!: Micros", granted_at as "granted_at!: Micros",
                           generation as "generation!", status as "status!", failures as "failures!: i32",
                           next_attempt_at as "next_attempt_at!: OptionalMicros",
                           last_used_at as "last_used_at!: OptionalMicros",
                           lease_owner is not null as "was_interrupted!: bool"
                       from access_tokens
                       where app_id = ?1 and open_id = ?2 and kind = 'user'
                         and status in ('active', 'outcome_unknown') and refresh_token_sealed is not null
                         and (lease_until is null
                              or lease_until <= cast(unixepoch('subsec') * 1000000 as integer))"#,
                    app_id.as_str(),
                    open_id.as_str()
                )
                .fetch_optional(&mut *tx)
                .await?;
                if let Some(row) = &row {
                    lease(&mut tx, row, owner, life).await?;
                }
                tx.commit().await?;
                Ok(row)
            })
            .await?;
        if let Some(row) = row {
            return Ok(RefreshClaim::Leased(Box::new(row.into_model(&self.cipher)?)));
        }
        let left = self
            .read(DURING, async |db| {
                query_scalar!(
                    r#"select lease_until - cast(unixepoch('subsec') * 1000000 as integer) as "left!: i64"
                       from access_tokens
                       where app_id = ?1 and open_id = ?2 and kind = 'user'
                         and status in ('active', 'outcome_unknown') and lease_until is not null"#,
                    app_id.as_str(),
                    open_id.as_str()
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        Ok(left.map_or(RefreshClaim::NotRefreshable, |left| RefreshClaim::Held {
            left: Duration::from_micros(left.try_into().unwrap_or(0)),
        }))
    }

    async fn claim_due_refreshes(
        &self,
        now: Timestamp,
        frozen_before: Timestamp,
        owner: Uuid,
        life: Duration,
        limit: u32,
    ) -> Result<Vec<LeasedToken>> {
        let rows = self
            .write("taking the leases of due tokens", async |db| {
                let mut tx = db.begin_with(BEGIN_WRITING).await?;
                let rows = query_as!(
                    LeasedRow,
                    r#"select app_id as "app_id!", open_id as "open_id!", kind as "kind!", access_token_sealed,
                           access_expires_at as "access_expires_at!: Micros", refresh_token_sealed,
                           refresh_expires_at as "refresh_expires_at!: OptionalMicros", scopes as "scopes!: Texts",
                           issued_at as "issued_at!: Micros", granted_at as "granted_at!: Micros",
                           generation as "generation!", status as "status!", failures as "failures!: i32",
                           next_attempt_at as "next_attempt_at!: OptionalMicros",
                           last_used_at as "last_used_at!: OptionalMicros",
                           lease_owner is not null as "was_interrupted!: bool"
                       from access_tokens t
                       where next_attempt_at <= ?1 and status in ('active', 'outcome_unknown')
                         and refresh_token_sealed is not null
                         and (lease_until is null
                              or lease_until <= cast(unixepoch('subsec') * 1000000 as integer))
                         and (select enabled and (frozen_since is null or frozen_since <= ?2)
                              from applications a where a.app_id = t.app_id)
                       order by next_attempt_at limit ?3"#,
                    micros(now),
                    micros(frozen_before),
                    limit
                )
                .fetch_all(&mut *tx)
                .await?;
                for row in &rows {
                    lease(&mut tx, row, owner, life).await?;
                }
                tx.commit().await?;
                Ok(rows)
            })
            .await?;
        Ok(leased(rows, &self.cipher))
    }

    async fn complete_refresh(&self, refreshed: &RefreshedToken) -> Result<bool> {
        let sealed = SealedPair::new(&self.cipher, refreshed)?;
        let done = self
            .write("storing a refreshed token", async |db| {
                query!(
                    "update access_tokens set
                         access_token_sealed = ?4, access_expires_at = ?5, refresh_token_sealed = ?6,
                         refresh_expires_at = ?7, scopes = ?8, issued_at = ?9, generation = generation + 1,
                         status = case status when 'suspended' then status else 'active' end,
                         lease_owner = null, lease_until = null, failures = 0, next_attempt_at = ?10
                     where app_id = ?1 and open_id = ?2 and kind = 'user' and generation = ?3 and status <> 'revoked'",
                    refreshed.app_id.as_str(),
                    refreshed.open_id.as_str(),
                    refreshed.generation,
                    &sealed.access_token,
                    micros(refreshed.pair.access_expires_at),
                    sealed.refresh_token.as_deref(),
                    refreshed.pair.refresh_expires_at.map(micros),
                    Json(&refreshed.pair.scopes),
                    micros(refreshed.now),
                    refreshed.next_attempt_at.map(micros)
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn end_refresh(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        owner: Uuid,
        end: RefreshEnd,
    ) -> Result<bool> {
        let done = self
            .write("ending a refresh", async |db| {
                query!(
                    "update access_tokens set
                         status = ?4, failures = ?5, next_attempt_at = ?6, lease_owner = null, lease_until = null
                     where app_id = ?1 and open_id = ?2 and kind = 'user' and lease_owner = ?3",
                    app_id.as_str(),
                    open_id.as_str(),
                    owner.hyphenated(),
                    end.status.as_str(),
                    end.failures,
                    end.next_attempt_at.map(micros)
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn touch_token(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        now: Timestamp,
        last_before: Timestamp,
    ) -> Result<bool> {
        let done = self
            .write("recording the use of a token", async |db| {
                query!(
                    "update access_tokens set last_used_at = ?3
                     where app_id = ?1 and open_id = ?2 and kind = 'user'
                       and (last_used_at is null or last_used_at <= ?4)",
                    app_id.as_str(),
                    open_id.as_str(),
                    micros(now),
                    micros(last_before)
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// Gives the owner the lease of a row, within the transaction that read the row.
pub(crate) async fn lease(
    db: &mut SqliteConnection,
    row: &LeasedRow,
    owner: Uuid,
    life: Duration,
) -> sqlx::Result<()> {
    query!(
        "update access_tokens set
             lease_owner = ?4, lease_until = cast(unixepoch('subsec') * 1000000 as integer) + ?5
         where app_id = ?1 and open_id = ?2 and kind = ?3",
        row.app_id,
        row.open_id,
        row.kind,
        owner.hyphenated(),
        claims::micros(life)
    )
    .execute(db)
    .await?;
    Ok(())
}
