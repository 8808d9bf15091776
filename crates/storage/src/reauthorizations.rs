use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, Timestamp};

use crate::Result;

/// People who have to consent again.
///
/// A caller claims people for a while, asks each, and says when the next time is. A caller that stops in between asks no one
/// twice: the person is claimed again after that while, and has an open invitation then, or none.
#[async_trait]
pub trait Reauthorizations {
    /// Claims at most `limit` people of an application whose token has ended and who may be asked, until `until`. Those who may be
    /// asked longest come first. With `used_after`, only people whose token was used, or given, later than that. Concurrent calls
    /// claim different people.
    async fn claim_ended(
        &self,
        app_id: &AppId,
        used_after: Option<Timestamp>,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<OpenId>>;
    /// Claims at most `limit` people of an application who consented before `granted_before`, whose token can still be refreshed,
    /// and who may be asked, until `until`. The oldest consents come first. Concurrent calls claim different people.
    async fn claim_ending(
        &self,
        app_id: &AppId,
        granted_before: Timestamp,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<OpenId>>;
    /// Sets when a person may be asked the next time. A new consent resets it.
    async fn set_ask_at(&self, app_id: &AppId, open_id: &OpenId, ask_at: Timestamp) -> Result<bool>;
}
