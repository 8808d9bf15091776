use async_trait::async_trait;
use larkauth_models::Timestamp;

use crate::Result;

/// Ticks of scheduled jobs, shared by all processes.
#[async_trait]
pub trait JobTicks {
    /// Claims a tick of a job. Returns true for one caller, and false when this tick or a later one was claimed before.
    async fn claim_tick(&self, job: &str, tick_at: Timestamp) -> Result<bool>;
}
