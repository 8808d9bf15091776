use async_trait::async_trait;
use larkauth_models::{EventId, Timestamp};

use crate::Result;

/// Record of the events that each consumer has processed, kept for at least 24 hours.
#[async_trait]
pub trait ProcessedEvents {
    /// Returns whether the consumer has processed the event.
    async fn is_processed(&self, consumer: &str, event_id: &EventId) -> Result<bool>;
    /// Records that the consumer has processed the event. Idempotent.
    async fn mark_processed(&self, consumer: &str, event_id: &EventId, now: Timestamp) -> Result<()>;
    /// Deletes at most `limit` records older than `before`, oldest first, and returns their number.
    async fn purge_processed(&self, before: Timestamp, limit: u32) -> Result<u64>;
}
