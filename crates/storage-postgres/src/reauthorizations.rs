use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, Timestamp};
use larkauth_storage::{Reauthorizations, Result, backend::rows::open_ids};
use sqlx::{query, query_scalar};

use crate::store::PgStore;

#[async_trait]
impl Reauthorizations for PgStore {
    async fn claim_ended(
        &self,
        app_id: &AppId,
        used_after: Option<Timestamp>,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<OpenId>> {
        let rows = self
            .call("claiming people whose token has ended", async |db| {
                query_scalar!(
                    "with due as (
                         select token_id from access_tokens
                         where app_id = $1 and status = 'reauthorization_required' and kind = 'user' and ask_at <= $2
                           and ($5::timestamptz is null or coalesce(last_used_at, granted_at) > $5)
                         order by ask_at limit $4
                         for update skip locked)
                     update access_tokens set ask_at = $3
                     where token_id = any(array(select token_id from due))
                     returning open_id",
                    app_id.as_str(),
                    now,
                    until,
                    i64::from(limit),
                    used_after
                )
                .fetch_all(db)
                .await
            })
            .await?;
        open_ids(rows)
    }

    async fn claim_ending(
        &self,
        app_id: &AppId,
        granted_before: Timestamp,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<OpenId>> {
        let rows = self
            .call("claiming people whose token ends soon", async |db| {
                query_scalar!(
                    "with due as (
                         select token_id from access_tokens
                         where app_id = $1 and granted_at < $5 and ask_at <= $2
                           and status in ('active', 'outcome_unknown') and kind = 'user'
                           and refresh_token_sealed is not null
                         order by granted_at limit $4
                         for update skip locked)
                     update access_tokens set ask_at = $3
                     where token_id = any(array(select token_id from due))
                     returning open_id",
                    app_id.as_str(),
                    now,
                    until,
                    i64::from(limit),
                    granted_before
                )
                .fetch_all(db)
                .await
            })
            .await?;
        open_ids(rows)
    }

    async fn set_ask_at(&self, app_id: &AppId, open_id: &OpenId, ask_at: Timestamp) -> Result<bool> {
        self.change("recording when a person is asked next", async |db| {
            query!(
                "update access_tokens set ask_at = $3
                     where app_id = $1 and open_id = $2 and kind = 'user' and status <> 'revoked'",
                app_id.as_str(),
                open_id.as_str(),
                ask_at
            )
            .execute(db)
            .await
        })
        .await
    }
}
