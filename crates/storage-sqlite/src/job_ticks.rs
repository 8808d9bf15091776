use async_trait::async_trait;
use larkauth_models::Timestamp;
use larkauth_storage::{JobTicks, MAX_CLOCK_LEAD, Result};
use sqlx::{query, query_scalar};

use crate::{
    columns::{Micros, micros},
    store::SqliteStore,
};

#[async_trait]
impl JobTicks for SqliteStore {
    async fn claim_tick(&self, job: &str, tick_at: Timestamp, now: Timestamp) -> Result<bool> {
        self.change("claiming a tick", async |db| {
            let (at, latest) = (micros(tick_at), micros(now + MAX_CLOCK_LEAD));
            query!(
                "insert into job_ticks (name, tick_at) values (?1, ?2)
                     on conflict (name) do update set tick_at = excluded.tick_at
                     where job_ticks.tick_at < excluded.tick_at or job_ticks.tick_at > ?3",
                job,
                at,
                latest
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn last_tick(&self, job: &str) -> Result<Option<Timestamp>> {
        let tick = self
            .read("reading a tick", async |db| {
                query_scalar!(r#"select tick_at as "tick_at!: Micros" from job_ticks where name = ?1"#, job)
                    .fetch_optional(db)
                    .await
            })
            .await?;
        Ok(tick.map(Timestamp::from))
    }
}
