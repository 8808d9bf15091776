use async_trait::async_trait;
use larkauth_models::{AppId, Timestamp};
use larkauth_storage::{
    Horizon, HorizonCount, HorizonCursor, HorizonFilter, Loss, Result, TokenRisks,
    backend::losses::{self, LossRow},
};
use sqlx::{query, query_as, query_scalar};

use crate::{
    columns::{Micros, OptionalMicros, micros},
    store::SqliteStore,
};

#[async_trait]
impl Horizon for SqliteStore {
    async fn losses(
        &self,
        filter: &HorizonFilter,
        after: Option<&HorizonCursor>,
        limit: u32,
    ) -> Result<Vec<Loss>> {
        let start = losses::start(filter, after);
        let (at, until) = (micros(start.at), micros(filter.until));
        let app_id = filter.app_id.as_ref().map(AppId::as_str);
        let (tokens, frozen) = self
            .read("looking for losses of access", async |db| {
                let tokens = query_as!(
                    LossRow,
                    r#"select app_id as "app_id!", open_id as "open_id!", loses_at as "at!: Micros",
                          loss_reason as "reason!: String"
                       from access_tokens
                       where kind = 'user' and (loses_at, app_id, open_id) > (?1, ?2, ?3) and loses_at <= ?4
                         and (?5 is null or app_id = ?5)
                       order by loses_at, app_id, open_id limit ?6"#,
                    at,
                    &start.app_id,
                    &start.open_id,
                    until,
                    app_id,
                    limit
                )
                .fetch_all(&mut *db)
                .await?;
                let frozen = query_as!(
                    LossRow,
                    r#"select t.app_id as "app_id!", t.open_id as "open_id!", t.access_expires_at as "at!: Micros",
                          'breaker_open' as "reason!: String"
                       from applications a cross join access_tokens t on t.app_id = a.app_id
                       where a.frozen_since is not null and (?5 is null or a.app_id = ?5)
                         and t.kind = 'user' and t.status = 'active' and t.refresh_token_sealed is not null
                         and t.loses_at > t.access_expires_at
                         and (t.access_expires_at, t.app_id, t.open_id) > (?1, ?2, ?3) and t.access_expires_at <= ?4
                       order by t.access_expires_at, t.app_id, t.open_id limit ?6"#,
                    at,
                    &start.app_id,
                    &start.open_id,
                    until,
                    app_id,
                    limit
                )
                .fetch_all(db)
                .await?;
                Ok((tokens, frozen))
            })
            .await?;
        losses::merge(tokens, frozen, limit)
    }

    async fn count_losses(&self, filter: &HorizonFilter) -> Result<Vec<HorizonCount>> {
        let (from, until) = (micros(filter.from), micros(filter.until));
        let app_id = filter.app_id.as_ref().map(AppId::as_str);
        let (tokens, frozen) = self
            .read("counting losses of access", async |db| {
                let tokens = query!(
                    r#"select loss_reason as "reason!: String", count(*) as "people!: i64" from access_tokens
                       where kind = 'user' and loses_at >= ?1 and loses_at <= ?2 and (?3 is null or app_id = ?3)
                       group by loss_reason"#,
                    from,
                    until,
                    app_id
                )
                .fetch_all(&mut *db)
                .await?;
                let frozen = query_scalar!(
                    r#"select count(*) as "people!: i64"
                       from applications a cross join access_tokens t on t.app_id = a.app_id
                       where a.frozen_since is not null and (?3 is null or a.app_id = ?3)
                         and t.kind = 'user' and t.status = 'active' and t.refresh_token_sealed is not null
                         and t.loses_at > t.access_expires_at and t.access_expires_at >= ?1
                         and t.access_expires_at <= ?2"#,
                    from,
                    until,
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
            .read("looking for tokens at risk", async |db| {
                query!(
                    r#"select app_id as "app_id!", frozen_since is not null as "is_frozen!: bool",
                          (select count(*) from access_tokens t
                           where t.app_id = a.app_id and t.status = 'outcome_unknown' and t.kind = 'user') as "unknown!: i64",
                          (select min(next_attempt_at) from access_tokens t
                           where t.app_id = a.app_id and a.enabled and status in ('active', 'outcome_unknown')
                             and refresh_token_sealed is not null and next_attempt_at is not null) as "next_refresh_at!: OptionalMicros"
                       from applications a order by app_id"#
                )
                .fetch_all(db)
                .await
            })
            .await?;
        rows.into_iter()
            .map(|row| losses::risks(row.app_id, row.unknown, row.next_refresh_at.into(), row.is_frozen))
            .collect()
    }

    async fn ending_consents(&self, from: Timestamp, until: Timestamp) -> Result<Vec<(AppId, i64)>> {
        let (from, until) = (micros(from), micros(until));
        let rows = self
            .read("counting consents that end", async |db| {
                query!(
                    r#"select app_id as "app_id!", count(*) as "people!: i64" from access_tokens
                       where kind = 'user' and loses_at >= ?1 and loses_at <= ?2 and loss_reason = 'consent_ends'
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
