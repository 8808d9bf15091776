use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, UserProfile};

use crate::Result;

/// Profiles of people.
#[async_trait]
pub trait Profiles {
    /// Returns the profile of a person, as the application may see it.
    async fn profile(&self, app_id: &AppId, open_id: &OpenId) -> Result<Option<UserProfile>>;
}
