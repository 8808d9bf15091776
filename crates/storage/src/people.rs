use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, SuspensionReason, Timestamp, UserId, UserProfile};
use uuid::Uuid;

use crate::{AuditEntry, LeasedToken, Result};

/// What Lark says of people: their profiles, and whether they are served.
#[async_trait]
pub trait People {
    /// Returns at most `limit` people of an application who were looked up before `synced_before`, those whose last look is
    /// the oldest first; and when there are none, those whose last look lies more than [`MAX_CLOCK_LEAD`](crate::MAX_CLOCK_LEAD)
    /// after `now`: it comes from a clock that was wrong.
    async fn people_to_sync(
        &self,
        app_id: &AppId,
        synced_before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<OpenId>>;
    /// Counts the people of an application who were looked up before `synced_before`.
    async fn count_to_sync(&self, app_id: &AppId, synced_before: Timestamp) -> Result<u64>;
    /// Records a look at a person, unless the last one was at `synced_before` or later; one of a wrong clock does not count.
    /// `false`: another caller looks, or the person has no profile.
    async fn claim_sync(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        synced_before: Timestamp,
        now: Timestamp,
    ) -> Result<bool>;
    /// Stores what Lark says of people who have a profile, and records a look at each of them and at `others`. What Lark does
    /// not say stays as it is. One transaction.
    async fn store_synced(
        &self,
        app_id: &AppId,
        profiles: &[UserProfile],
        others: &[OpenId],
        now: Timestamp,
    ) -> Result<()>;
    /// Returns those of the people whose token is suspended, with the reason.
    async fn suspended(&self, app_id: &AppId, open_ids: &[OpenId])
    -> Result<Vec<(OpenId, SuspensionReason)>>;
    /// Suspends the token of a person, and ends a lease of it. `false`, without a record, when there is no token to suspend;
    /// a token that is suspended because Lark refused the person gets the reason.
    async fn suspend_person(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        reason: SuspensionReason,
        audit: &AuditEntry,
    ) -> Result<bool>;
    /// Ends the suspension of a person's token at the time of the record. A token whose refresh token may be valid becomes
    /// active and is refreshed at once, any other one needs a consent. A token that is suspended because Lark refused the
    /// person stays suspended, unless `refreshed`: Lark has just given a new pair.
    async fn restore_person(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        refreshed: bool,
        audit: &AuditEntry,
    ) -> Result<bool>;
    /// Takes the lease of a suspended token for `life`, to find out whether Lark accepts the person again. `None` when another
    /// caller holds it, or the token is not suspended or has no refresh token.
    async fn claim_suspended(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        owner: Uuid,
        life: Duration,
    ) -> Result<Option<LeasedToken>>;
    /// Returns at most `limit` people after the given one whose suspension or restoration is not announced, in the order of
    /// their keys.
    async fn unannounced_people(
        &self,
        after: Option<&UnannouncedPerson>,
        limit: u32,
    ) -> Result<Vec<UnannouncedPerson>>;
    /// Records that this was announced. `false` when it was recorded before.
    async fn record_person_announced(&self, announced: &UnannouncedPerson) -> Result<bool>;
}

/// A suspension or restoration that is not announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnannouncedPerson {
    /// The application.
    pub app_id: AppId,
    /// The person.
    pub open_id: OpenId,
    /// The person, where known.
    pub user_id: Option<UserId>,
    /// Why the token is suspended. `None`: it is suspended no more.
    pub suspended_for: Option<SuspensionReason>,
    /// Number of earlier announcements of this person, the same until this one is recorded.
    pub earlier: u32,
}
