use async_trait::async_trait;
use larkauth_models::Timestamp;

use crate::{
    ApiKeys, Applications, Audit, CallBudgets, Changes, DevicePolls, EncryptionKeys, Horizon, JobTicks,
    People, ProcessedEvents, Profiles, Reauthorizations, Refreshes, Result, Sessions, Tokens,
};

/// Connections of this process to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Connections that are in use.
    pub used: u32,
    /// Connections that are not.
    pub idle: u32,
    /// Largest number of both.
    pub limit: u32,
}

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
    /// Returns the size of the database in bytes.
    async fn size(&self) -> Result<u64>;
    /// Returns the numbers of connections.
    fn pool_usage(&self) -> PoolUsage;
    /// Waits until running calls have ended, then closes the connections.
    async fn close(&self);
}
