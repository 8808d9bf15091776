use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, UserProfile};
use larkauth_storage::{Profiles, Result, backend::rows::ProfileRow};
use sqlx::query_as;

use crate::store::SqliteStore;

#[async_trait]
impl Profiles for SqliteStore {
    async fn profile(&self, app_id: &AppId, open_id: &OpenId) -> Result<Option<UserProfile>> {
        let row = self
            .read("reading a profile", async |db| {
                query_as!(
                    ProfileRow,
                    "select app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed, mobile_sealed,
                            tenant_key
                     from user_profiles where app_id = ?1 and open_id = ?2",
                    app_id.as_str(),
                    open_id.as_str()
                ).fetch_optional(db).await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }
}
