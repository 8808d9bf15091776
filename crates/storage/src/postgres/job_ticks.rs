use async_trait::async_trait;
use larkauth_models::Timestamp;
use sqlx::query;

use super::PgStore;
use crate::{JobTicks, Result};

#[async_trait]
impl JobTicks for PgStore {
    async fn claim_tick(&self, job: &str, tick_at: Timestamp) -> Result<bool> {
        let done = self
            .call("claiming a tick", async |db| {
                query!(
                    "insert into job_ticks (name, tick_at) values ($1, $2)
                     on conflict (name) do update set tick_at = excluded.tick_at
                     where job_ticks.tick_at < excluded.tick_at",
                    job,
                    tick_at
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
