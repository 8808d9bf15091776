use async_trait::async_trait;
use larkauth_models::{AppId, Timestamp};
use larkauth_storage::{
    Horizon, HorizonCount, HorizonCursor, HorizonFilter, Loss, Result, TokenRisks,
    backend::losses::{self, LossRow},
};
use sqlx::{query, query_as, query_scalar};

use crate::store::PgStore;

#[async_trait]
impl Horizon for PgStore {
    async fn losses(
        &self,
        filter: &HorizonFilter,
        after: Option<&HorizonCursor>,
        limit: u32,
    ) -> Result<Vec<Loss>> {
        let start = losses::start(filter, after);
        let app_id = filter.app_id.as_ref().map(AppId::as_str);
        let (tokens, frozen) = self
            .call("looking for losses of access", async |db| {
                let tokens = query_as!(
                    LossRow,
                    r#"select app_id, open_id, loses_at as "at!", loss_reason as "reason!"
                       from access_tokens
                       where kind = 'user' and (loses_at, app_id, open_id) > ($1, $2, $3) and loses_at <= $4
                         and ($5::text is null or app_id = $5)
                       order by loses_at, app_id, open_id limit $6"#,
                    start.at,
                    start.app_id,
                    start.open_id,
                    filter.until,
                    app_id,
                    i64::from(limit)
                )
                .fetch_all(&mut *db)
                .await?;
                let frozen = query_as!(
                    LossRow,
                    r#"select t.app_id, t.open_id, t.access_expires_at as "at!", 'breaker_open' as "reason!"
                       from applications a join access_tokens t on t.app_id = a.app_id
                       where a.frozen_since is not null and ($5::text is null or a.app_id = $5)
                         and t.kind = 'user' and t.status = 'active' and t.refresh_token_sealed is not null
                         and t.loses_at > t.access_expires_at
                         and (t.access_expires_at, t.app_id, t.open_id) > ($1, $2, $3) and t.access_expires_at <= $4
                       order by t.access_expires_at, t.app_id, t.open_id limit $6"#,
                    start.at,
                    start.app_id,
                    start.open_id,
                    filter.until,
                    app_id,
                    i64::from(limit)
                )
                .fetch_all(db)
                .await?;
                Ok((tokens, frozen))
            })
            .await?;
        losses::merge(tokens, frozen, limit)
    }

    async fn count_losses(&self, filter: &HorizonFilter) -> Result<Vec<HorizonCount>> {
        let app_id = filter.app_id.as_ref().map(AppId::as_str);
        let (tokens, frozen) = self
            .call("counting losses of access", async |db| {
                let tokens = query!(
                    r#"select loss_reason as "reason!", count(*) as "people!" from access_tokens
                       where kind = 'user' and loses_at >= $1 and loses_at <= $2 and ($3::text is null or app_id = $3)
                       group by loss_reason"#,
                    filter.from,
                    filter.until,
                    app_id
                )
                .fetch_all(&mut *db)
                .await?;
                let frozen = query_scalar!(
                    r#"select count(*) as "people!"
                       from applications a join access_tokens t on t.app_id = a.app_id
                       where a.frozen_since is not null and ($3::text is null or a.app_id = $3)
                         and t.kind = 'user' and t.status = 'active' and t.refresh_token_sealed is not null
                         and t.loses_at > t.access_expires_at and t.access_expires_at >= $1
                         and t.access_expires_at <= $2"#,
                    filter.from,
                    filter.until,
                    app_id
                )
                .fetch_one(db)
                .await?;
                Ok((tokens, frozen))
            })
            .await?;
        losses::counts(tokens.into_iter().map(|row| (row.reason, row.people)).collect(), frozen)
    }

    async fn token_risks(&self) -> Result<Vec<TokenRisks>> {
        let rows = self
            .call("looking for tokens at risk", async |db| {
                query!(
                    r#"select app_id, frozen_since is not null as "is_frozen!",
                              (select count(*) from access_tokens t
                               where t.app_id = a.app_id and t.status = 'outcome_unknown' and t.kind = 'user') as "unknown!",
                              (select min(next_attempt_at) from access_tokens t
                               where t.app_id = a.app_id and a.enabled and status in ('active', 'outcome_unknown')
                                 and refresh_token_sealed is not null and next_attempt_at is not null) as next_refresh_at
                       from applications a order by app_id"#
                )
                .fetch_all(db)
                .await
            })
            .await?;
        rows.into_iter()
            .map(|row| losses::risks(row.app_id, row.unknown, row.next_refresh_at, row.is_frozen))
            .collect()
    }

    async fn ending_consents(&self, from: Timestamp, until: Timestamp) -> Result<Vec<(AppId, i64)>> {
        let rows = self
            .call("counting consents that end", async |db| {
                query!(
                    r#"select app_id, count(*) as "people!" from access_tokens
                       where kind = 'user' and loses_at >= $1 and loses_at <= $2 and loss_reason = 'consent_ends'
                       group by app_id"#,
                    from,
                    until
                )
                .fetch_all(db)
                .await
            })
            .await?;
        losses::by_application(rows.into_iter().map(|row| (row.app_id, row.people)))
    }
}
