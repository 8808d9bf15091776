use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, UserProfile};

use crate::Result;

/// People.
#[async_trait]
pub trait Profiles {
    /// One person as one application sees them.
    async fn profile(&self, app_id: &AppId, open_id: &OpenId) -> Result<Option<UserProfile>>;
}
