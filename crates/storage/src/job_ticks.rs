use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::Timestamp;

use crate::Result;

/// Longest lead of another process's clock whose ticks count: 5 min.
pub const MAX_CLOCK_LEAD: Duration = Duration::from_secs(300);

/// Ticks of scheduled jobs, shared by all processes.
#[async_trait]
pub trait JobTicks {
    /// Claims a tick of a job. Returns true for one caller, and false when this tick or a later one was claimed before. A
    /// claimed tick that lies more than [`MAX_CLOCK_LEAD`] after `now` comes from a clock that was wrong: it counts no more.
    async fn claim_tick(&self, job: &str, tick_at: Timestamp, now: Timestamp) -> Result<bool>;
    /// Returns the latest claimed tick of a job.
    async fn last_tick(&self, job: &str) -> Result<Option<Timestamp>>;
}
