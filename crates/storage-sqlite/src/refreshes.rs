use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, Timestamp};
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    DueApplication, DueOrder, LeasedToken, RefreshClaim, RefreshEnd, RefreshedToken, Refreshes, Result,
    backend::{
        claims,
        rows::{LeasedRow, due_application, leased},
        sealed::SealedPair,
    },
};
use sqlx::{Connection, SqliteConnection, query, query_as, query_scalar, types::Json};
use uuid::Uuid;

use crate::{
    columns::{Micros, OptionalMicros, Texts, micros},
    store::SqliteStore,
};

/// Queries tokens with a refresh token and without a lease that is in force.
macro_rules! free {
    ($condition:literal $(+ $more:literal)*, $($argument:expr),*) => {
        query_as!(
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
               where refresh_token_sealed is not null
                 and (lease_until is null or lease_until <= cast(unixepoch('subsec') * 1000000 as integer)
                      or lease_until > cast(unixepoch('subsec') * 1000000 as integer) + 360000000)
                 and "# + $condition $(+ $more)*,
            $($argument),*
        )
    };
}

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
        let row =
            self.write(DURING, async |db| take_lease(db, app_id, open_id, false, owner, life).await).await?;
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

    async fn due_applications(
        &self,
        now: Timestamp,
        frozen_before: Timestamp,
        at_most: u32,
    ) -> Result<Vec<DueApplication>> {
        let rows = self
            .read("looking for due tokens", async |db| {
                query!(
                    r#"select app_id as "app_id!", due as "due!: i64"
                       from (select a.app_id,
                                 (select count(*) from (
                                      select 1 from access_tokens t
                                      where t.app_id = a.app_id and next_attempt_at <= ?1
                                        and status in ('active', 'outcome_unknown') and refresh_token_sealed is not null
                                        and (lease_until is null
                                             or lease_until <= cast(unixepoch('subsec') * 1000000 as integer)
                                             or lease_until > cast(unixepoch('subsec') * 1000000 as integer) + 360000000)
                                      limit ?3)) as due
                             from applications a
                             where enabled and (frozen_since is null or frozen_since <= ?2))
                       where due > 0
                       order by app_id"#,
                    micros(now),
                    micros(frozen_before),
                    at_most
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
        /// Returns due tokens that also fulfil a condition, in an order.
        macro_rules! due {
            ($db:expr, $before:expr, $limit:expr, $condition:literal) => {
                free!(
                    "app_id = ?1 and next_attempt_at <= ?2 and status in ('active', 'outcome_unknown') and "
                        + $condition
                        + " limit ?4",
                    app_id.as_str(),
                    micros(order.now),
                    micros($before),
                    $limit
                )
                .fetch_all(&mut *$db)
                .await?
            };
        }
        let rows = self
            .write("taking the leases of due tokens", async |db| {
                let mut tx = db.begin_with(BEGIN_WRITING).await?;
                let mut rows = due!(
                    tx,
                    order.logins_before,
                    limit,
                    "refresh_expires_at > ?2 and refresh_expires_at <= ?3 order by refresh_expires_at"
                );
                for row in &rows {
                    lease(&mut tx, row, owner, life).await?;
                }
                if let Some(left) = claims::left(limit, rows.len()) {
                    let more = due!(
                        tx,
                        order.access_before,
                        left,
                        "access_expires_at > ?2 and access_expires_at <= ?3 order by access_expires_at"
                    );
                    for row in &more {
                        lease(&mut tx, row, owner, life).await?;
                    }
                    rows.extend(more);
                }
                if let Some(left) = claims::left(limit, rows.len()) {
                    let more = due!(tx, order.now, left, "next_attempt_at <= ?3 order by next_attempt_at");
                    for row in &more {
                        lease(&mut tx, row, owner, life).await?;
                    }
                    rows.extend(more);
                }
                tx.commit().await?;
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
                         access_token_sealed = ?4, access_expires_at = ?5, refresh_token_sealed = ?6,
                         refresh_expires_at = ?7, scopes = ?8, issued_at = ?9, generation = generation + 1,
                         status = case status when 'suspended' then status else 'active' end,
                         lease_owner = null, lease_until = null, failures = ?11, next_attempt_at = ?10
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
                    refreshed.next_attempt_at.map(micros),
                    refreshed.failures
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
        .await
    }
}

/// Takes the lease of one token that can be refreshed, or of a suspended one.
pub(crate) async fn take_lease(
    db: &mut SqliteConnection,
    app_id: &AppId,
    open_id: &OpenId,
    is_suspended: bool,
    owner: Uuid,
    life: Duration,
) -> sqlx::Result<Option<LeasedRow>> {
    let mut tx = db.begin_with(BEGIN_WRITING).await?;
    let row = free!(
        "app_id = ?1 and open_id = ?2 and kind = 'user'
         and case when ?3 then status = 'suspended' else status in ('active', 'outcome_unknown') end",
        app_id.as_str(),
        open_id.as_str(),
        is_suspended
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(row) = &row {
        lease(&mut tx, row, owner, life).await?;
    }
    tx.commit().await?;
    Ok(row)
}

/// Gives the owner the lease of a row, within the transaction that read the row.
async fn lease(db: &mut SqliteConnection, row: &LeasedRow, owner: Uuid, life: Duration) -> sqlx::Result<()> {
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
