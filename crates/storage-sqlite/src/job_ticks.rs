use async_trait::async_trait;
use larkauth_models::Timestamp;
use larkauth_storage::{JobTicks, MAX_CLOCK_LEAD, Result};
use sqlx::query;

use crate::{columns::micros, store::SqliteStore};

#[async_trait]
impl JobTicks for SqliteStore {
    async fn claim_tick(&self, job: &str, tick_at: Timestamp, now: Timestamp) -> Result<bool> {
        let done = self
            .write("claiming a tick", async |db| {
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
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
