use async_trait::async_trait;
use larkauth_models::Timestamp;

use crate::{
    ApiKeys, Applications, Audit, CallBudgets, Changes, DevicePolls, EncryptionKeys, Horizon, JobTicks,
    People, ProcessedEvents, Profiles, Reauthorizations, Refreshes, Result, Sessions, Tokens,
};

/// All repositories of one database behind one handle.
#[async_trait]
pub trait Store:
    Applications
    + Sessions
    + DevicePolls
    + Tokens
    + Refreshes
    + CallBudgets
    + Profiles
    + People
    + Reauthorizations
    + ProcessedEvents
    + ApiKeys
    + JobTicks
    + Audit
    + Changes
    + EncryptionKeys
    + Horizon
    + Send
    + Sync
    + 'static
{
    /// Checks that the database answers within the deadline of one call. Returns the time of its clock.
    async fn ping(&self) -> Result<Timestamp>;
    /// Waits until running calls have ended, then closes the connections.
    async fn close(&self);
}
