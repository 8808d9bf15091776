use async_trait::async_trait;

use crate::{ApiKeys, Applications, JobTicks, ProcessedEvents, Profiles, Result, Sessions, Tokens};

/// Everything that is kept. One object, so that the code above holds one handle.
#[async_trait]
pub trait Store:
    Applications + Sessions + Tokens + Profiles + ProcessedEvents + ApiKeys + JobTicks + Send + Sync + 'static
{
    /// Answers when the database does, within the deadline of one statement.
    async fn ping(&self) -> Result<()>;
    /// Closes connections once what is under way has ended.
    async fn close(&self);
}
