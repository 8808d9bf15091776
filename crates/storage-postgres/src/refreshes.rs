use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, Timestamp};
use larkauth_storage::{
    DueApplication, DueOrder, LeasedToken, RefreshClaim, RefreshEnd, RefreshedToken, Refreshes, Result,
    backend::{
        claims::{left, micros},
        rows::{LeasedRow, due_application, leased},
        sealed::SealedPair,
    },
};
use sqlx::{PgConnection, query, query_as, query_scalar};
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
        let row =
            self.call(DURING, async |db| take_lease(db, app_id, open_id, false, owner, life).await).await?;
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

    async fn due_applications(
        &self,
        now: Timestamp,
        frozen_before: Timestamp,
        at_most: u32,
    ) -> Result<Vec<DueApplication>> {
        let rows = self
            .call("looking for due tokens", async |db| {
                query!(
                    r#"select app_id, due as "due!"
                       from applications a, lateral (
                           select count(*) as due from (
                               select from access_tokens t
                               where t.app_id = a.app_id and next_attempt_at <= $1
                                 and status in ('active', 'outcome_unknown') and refresh_token_sealed is not null
                                 and (lease_until is null or lease_until <= clock_timestamp()
                                      or lease_until > clock_timestamp() + interval '6 minutes')
                               order by next_attempt_at limit $3) found) counted
                       where due > 0 and enabled and (frozen_since is null or frozen_since <= $2)
                       order by app_id"#,
                    now,
                    frozen_before,
                    i64::from(at_most)
                )
                .fetch_all(db)
                .await
            })
            .await?;
        rows.into_iter().map(|row| due_application(row.app_id, row.due)).collect()
    }

    async fn claim_due_refreshes(
        &self,
        app_id: &AppId,
        order: &DueOrder,
        owner: Uuid,
        life: Duration,
        limit: u32,
    ) -> Result<Vec<LeasedToken>> {
        /// Takes the leases of due tokens that also fulfil a condition, in an order.
        macro_rules! take {
            ($db:expr, $before:expr, $limit:expr, $condition:literal) => {
                query_as!(
                    LeasedRow,
                    r#"with due as (
                           select token_id, lease_owner is not null as was_interrupted from access_tokens
                           where app_id = $1 and next_attempt_at <= $2 and status in ('active', 'outcome_unknown')
                             and refresh_token_sealed is not null
                             and (lease_until is null or lease_until <= clock_timestamp()
                                  or lease_until > clock_timestamp() + interval '6 minutes')
                             and "# + $condition + r#" limit $4
                           for update skip locked)
                       update access_tokens t set
                           lease_owner = $5, lease_until = clock_timestamp() + $6::bigint * interval '1 microsecond'
                       where t.token_id = any(array(select token_id from due))
                       returning app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                           refresh_expires_at, scopes, issued_at, granted_at, generation, status, failures,
                           next_attempt_at, last_used_at,
                           (select was_interrupted from due where due.token_id = t.token_id) as "was_interrupted!""#,
                    app_id.as_str(),
                    order.now,
                    $before,
                    i64::from($limit),
                    owner,
                    micros(life)
                )
                .fetch_all(&mut *$db)
                .await?
            };
        }
        let rows = self
            .call("taking the leases of due tokens", async |db| {
                let mut rows = take!(
                    db,
                    order.logins_before,
                    limit,
                    "refresh_expires_at > $2 and refresh_expires_at <= $3 order by refresh_expires_at"
                );
                if let Some(left) = left(limit, rows.len()) {
                    rows.extend(take!(
                        db,
                        order.access_before,
                        left,
                        "access_expires_at > $2 and access_expires_at <= $3 order by access_expires_at"
                    ));
                }
                if let Some(left) = left(limit, rows.len()) {
                    rows.extend(take!(db, order.now, left, "next_attempt_at <= $3 order by next_attempt_at"));
                }
                Ok(rows)
            })
            .await?;
        Ok(leased(rows, &self.cipher))
    }

    async fn complete_refresh(&self, refreshed: &RefreshedToken) -> Result<bool> {
        let sealed = SealedPair::new(&self.cipher, refreshed)?;
        self.change("storing a refreshed token", async |db| {
                query!(
                    "update access_tokens set
                         access_token_sealed = $4, access_expires_at = $5, refresh_token_sealed = $6,
                         refresh_expires_at = $7, scopes = $8, issued_at = $9, generation = generation + 1,
                         status = case status when 'suspended' then status else 'active' end,
                         lease_owner = null, lease_until = null, failures = $11, next_attempt_at = $10
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
                    refreshed.next_attempt_at,
                    i32::try_from(refreshed.failures).unwrap_or(i32::MAX)
                )
                .execute(db)
                .await
        })
        .await
    }

    async fn end_refresh(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        owner: Uuid,
        end: RefreshEnd,
    ) -> Result<bool> {
        self.change("ending a refresh", async |db| {
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
        .await
    }

    async fn touch_token(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        now: Timestamp,
        last_before: Timestamp,
    ) -> Result<bool> {
        self.change("recording the use of a token", async |db| {
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
        .await
    }
}

/// Takes the lease of one token that can be refreshed, or of a suspended one.
pub(crate) async fn take_lease(
    db: &mut PgConnection,
    app_id: &AppId,
    open_id: &OpenId,
    is_suspended: bool,
    owner: Uuid,
    life: Duration,
) -> sqlx::Result<Option<LeasedRow>> {
    query_as!(
        LeasedRow,
        r#"with free as (
               select token_id, lease_owner is not null as was_interrupted from access_tokens
               where app_id = $1 and open_id = $2 and kind = 'user' and refresh_token_sealed is not null
                 and case when $3 then status = 'suspended' else status in ('active', 'outcome_unknown') end
                 and (lease_until is null or lease_until <= clock_timestamp()
                      or lease_until > clock_timestamp() + interval '6 minutes')
               for update)
           update access_tokens t set
               lease_owner = $4, lease_until = clock_timestamp() + $5::bigint * interval '1 microsecond'
           from free where t.token_id = free.token_id
           returning app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
               refresh_expires_at, scopes, issued_at, granted_at, generation, status, failures,
               next_attempt_at, last_used_at, was_interrupted as "was_interrupted!""#,
        app_id.as_str(),
        open_id.as_str(),
        is_suspended,
        owner,
        micros(life)
    )
    .fetch_optional(db)
    .await
}
