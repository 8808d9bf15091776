use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, UserProfile};

use crate::{AuditEntry, Result};

/// Number of rows that [`Profiles::erase_person`] deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Sessions, of any state.
    pub sessions: u64,
    /// Tokens, of any status.
    pub tokens: u64,
    /// Profiles: one, or none.
    pub profiles: u64,
}

/// Key of a profile: application and open id, as stored. The default comes before every profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileCursor {
    /// The application.
    pub app_id: String,
    /// The person.
    pub open_id: String,
}

/// Result of [`Profiles::purge_profiles`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfilePage {
    /// Number of deleted profiles.
    pub deleted: u64,
    /// Last profile that was looked at; `None` after the last profile of all.
    pub last: Option<ProfileCursor>,
}

/// Profiles of people, and what else is stored about one person.
#[async_trait]
pub trait Profiles {
    /// Returns the profile of a person, as the application may see it.
    async fn profile(&self, app_id: &AppId, open_id: &OpenId) -> Result<Option<UserProfile>>;
    /// Looks at `limit` profiles after the cursor, in the order of their keys, and deletes those of people who have neither
    /// a token, unless it is revoked, nor a session.
    async fn purge_profiles(&self, after: &ProfileCursor, limit: u32) -> Result<ProfilePage>;
    /// Returns every id that the application knows a person by: the open id, and the user ids of profile and sessions.
    async fn person_ids(&self, app_id: &AppId, open_id: &OpenId) -> Result<Vec<String>>;
    /// Deletes sessions, tokens and profile of a person, and writes the record, all in one transaction. The record is
    /// written also when there is nothing to delete.
    async fn erase_person(&self, app_id: &AppId, open_id: &OpenId, audit: &AuditEntry) -> Result<Erased>;
}
