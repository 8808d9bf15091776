use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, Timestamp};
use larkauth_storage::{
    LeasedToken, RefreshClaim, RefreshEnd, RefreshedToken, Refreshes, Result,
    backend::{
        claims::micros,
        rows::{LeasedRow, leased},
        sealed::SealedPair,
    },
};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use crate::store::PgStore;

#[async_trait]
impl Refreshes for PgStore {
    async fn claim_refresh(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        owner: Uuid,
        life: Duration,
    ) -> Result<RefreshClaim> {
        const DURING: &str = "taking the lease of a token";
        let row = self
            .call(DURING, async |db| {
                query_as!(
                    LeasedRow,
                    r#"with free as (
                           select token_id, lease_owner is not null as was_interrupted from access_tokens
                           where app_id = $1 and open_id = $2 and kind = 'user'
                             and status in ('active', 'outcome_unknown') and refresh_token_sealed is not null
                             and (lease_until is null or lease_until <= clock_timestamp())
                           for update)
                       update access_tokens t set
                           lease_owner = $3, lease_until = clock_timestamp() + $4::bigint * interval '1 microsecond'
                       from free where t.token_id = free.token_id
                       returning app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                           refresh_expires_at, scopes, issued_at, granted_at, generation, status, failures,
                           next_attempt_at, last_used_at, was_interrupted as "was_interrupted!""#,
                    app_id.as_str(),
                    open_id.as_str(),
                    owner,
                    micros(life)
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        if let Some(row) = row {
            return Ok(RefreshClaim::Leased(Box::new(row.into_model(&self.cipher)?)));
        }
        let left = self
            .call(DURING, async |db| {
                query_scalar!(
                    r#"select (extract(epoch from lease_until - clock_timestamp()) * 1000000)::bigint as "left!"
                       from access_tokens
                       where app_id = $1 and open_id = $2 and kind = 'user'
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
            .call("taking the leases of due tokens", async |db| {
                query_as!(
                    LeasedRow,
                    r#"with due as (
                           select token_id, lease_owner is not null as was_interrupted from access_tokens t
                           where next_attempt_at <= $1 and status in ('active', 'outcome_unknown')
                             and refresh_token_sealed is not null
                             and (lease_until is null or lease_until <= clock_timestamp())
                             and (select enabled and (frozen_since is null or frozen_since <= $2)
                                  from applications a where a.app_id = t.app_id)
                           order by next_attempt_at limit $3
                           for update skip locked)
                       update access_tokens t set
                           lease_owner = $4, lease_until = clock_timestamp() + $5::bigint * interval '1 microsecond'
                       where t.token_id = any(array(select token_id from due))
                       returning app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                           refresh_expires_at, scopes, issued_at, granted_at, generation, status, failures,
                           next_attempt_at, last_used_at,
                           (select was_interrupted from due where due.token_id = t.token_id) as "was_interrupted!""#,
                    now,
                    frozen_before,
                    i64::from(limit),
                    owner,
                    micros(life)
                )
                .fetch_all(db)
                .await
            })
            .await?;
        Ok(leased(rows, &self.cipher))
    }

    async fn complete_refresh(&self, refreshed: &RefreshedToken) -> Result<bool> {
        let sealed = SealedPair::new(&self.cipher, refreshed)?;
        let done = self
            .call("storing a refreshed token", async |db| {
                query!(
                    "update access_tokens set
                         access_token_sealed = $4, access_expires_at = $5, refresh_token_sealed = $6,
                         refresh_expires_at = $7, scopes = $8, issued_at = $9, generation = generation + 1,
                         status = case status when 'suspended' then status else 'active' end,
                         lease_owner = null, lease_until = null, failures = 0, next_attempt_at = $10
                     where app_id = $1 and open_id = $2 and kind = 'user' and generation = $3 and status <> 'revoked'",
                    refreshed.app_id.as_str(),
                    refreshed.open_id.as_str(),
                    refreshed.generation,
                    sealed.access_token,
                    refreshed.pair.access_expires_at,
                    sealed.refresh_token.as_deref(),
                    refreshed.pair.refresh_expires_at,
                    &refreshed.pair.scopes,
                    refreshed.now,
                    refreshed.next_attempt_at
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
            .call("ending a refresh", async |db| {
                query!(
                    "update access_tokens set
                         status = $4, failures = $5, next_attempt_at = $6, lease_owner = null, lease_until = null
                     where app_id = $1 and open_id = $2 and kind = 'user' and lease_owner = $3",
                    app_id.as_str(),
                    open_id.as_str(),
                    owner,
                    end.status.as_str(),
                    i32::try_from(end.failures).unwrap_or(i32::MAX),
                    end.next_attempt_at
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
            .call("recording the use of a token", async |db| {
                query!(
                    "update access_tokens set last_used_at = $3
                     where app_id = $1 and open_id = $2 and kind = 'user'
                       and (last_used_at is null or last_used_at <= $4)",
                    app_id.as_str(),
                    open_id.as_str(),
                    now,
                    last_before
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
