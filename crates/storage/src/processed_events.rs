use async_trait::async_trait;
use larkauth_models::{EventId, Timestamp};

use crate::Result;

/// Which events have had their effect. Kept for at least 24 hours.
#[async_trait]
pub trait ProcessedEvents {
    /// Whether this consumer has finished with this event.
    async fn is_processed(&self, consumer: &str, event_id: &EventId) -> Result<bool>;
    /// Remembers that it has. Twice is fine.
    async fn mark_processed(&self, consumer: &str, event_id: &EventId, now: Timestamp) -> Result<()>;
    /// Forgets at most `limit` records older than `before`; gives their number.
    async fn purge_processed(&self, before: Timestamp, limit: u32) -> Result<u64>;
}
