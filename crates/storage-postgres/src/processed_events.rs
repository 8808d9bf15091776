use async_trait::async_trait;
use larkauth_models::{EventId, Timestamp};
use sqlx::{query, query_scalar};

use larkauth_storage::{ProcessedEvents, Result};

use crate::store::PgStore;

#[async_trait]
impl ProcessedEvents for PgStore {
    async fn is_processed(&self, consumer: &str, event_id: &EventId) -> Result<bool> {
        self.call("looking up an event", async |db| {
            query_scalar!(
                r#"select exists(select from processed_events where consumer = $1 and event_id = $2) as "exists!""#,
                consumer,
                event_id.as_str()
            )
            .fetch_one(db)
            .await
        })
        .await
    }

    async fn mark_processed(&self, consumer: &str, event_id: &EventId, now: Timestamp) -> Result<()> {
        self.call("recording an event", async |db| {
            query!(
                "insert into processed_events (consumer, event_id, processed_at) values ($1, $2, $3)
                 on conflict do nothing",
                consumer,
                event_id.as_str(),
                now
            )
            .execute(db)
            .await
        })
        .await?;
        Ok(())
    }

    async fn purge_processed(&self, before: Timestamp, limit: u32) -> Result<u64> {
        let done = self
            .call("purging events", async |db| {
                query!(
                    "delete from processed_events where ctid = any(array(
                         select ctid from processed_events where processed_at < $1
                         order by processed_at limit $2 for update skip locked))",
                    before,
                    i64::from(limit)
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected())
    }
}
