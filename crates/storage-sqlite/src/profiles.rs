use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, UserProfile};
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    AuditEntry, Erased, ProfileCursor, ProfilePage, Profiles, Result, backend::rows::ProfileRow,
};
use sqlx::{Connection, query, query_as, query_scalar, types::Json};

use crate::{audit::record, store::SqliteStore};

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

    async fn purge_profiles(&self, after: &ProfileCursor, limit: u32) -> Result<ProfilePage> {
        self.write("purging profiles", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let page = query_as!(
                ProfileCursor,
                "select app_id, open_id from user_profiles
                 where (app_id, open_id) > (?1, ?2) order by app_id, open_id limit ?3",
                &after.app_id,
                &after.open_id,
                limit
            )
            .fetch_all(&mut *tx)
            .await?;
            let keys: Vec<_> = page.iter().map(|key| [&key.app_id, &key.open_id]).collect();
            let done = query!(
                "delete from user_profiles
                 where (app_id, open_id) in (select value ->> 0, value ->> 1 from json_each(?1))
                   and not exists (select 1 from access_tokens t
                                   where t.app_id = user_profiles.app_id and t.open_id = user_profiles.open_id
                                     and t.status <> 'revoked')
                   and not exists (select 1 from user_auth_sessions s
                                   where s.open_id = user_profiles.open_id and s.app_id = user_profiles.app_id)",
                Json(&keys)
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(ProfilePage { deleted: done.rows_affected(), last: page.into_iter().next_back() })
        })
        .await
    }

    async fn person_ids(&self, app_id: &AppId, open_id: &OpenId) -> Result<Vec<String>> {
        self.read("reading the ids of a person", async |db| {
            query_scalar!(
                r#"select ?2 as "id!: String"
                   union select user_id from user_profiles where app_id = ?1 and open_id = ?2 and user_id is not null
                   union select user_id from user_auth_sessions
                         where app_id = ?1 and open_id = ?2 and user_id is not null"#,
                app_id.as_str(),
                open_id.as_str()
            )
            .fetch_all(db)
            .await
        })
        .await
    }

    async fn erase_person(&self, app_id: &AppId, open_id: &OpenId, audit: &AuditEntry) -> Result<Erased> {
        self.write("erasing a person", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            // The user ids are read from the rows that the same transaction deletes. A session whose open id is not known
            // yet is the person's by its user id.
            let sessions = query!(
                "delete from user_auth_sessions where session_id in (
                     select session_id from user_auth_sessions where open_id = ?2 and app_id = ?1
                     union
                     select session_id from user_auth_sessions
                     where app_id = ?1 and open_id is null and user_id in (
                         select user_id from user_profiles
                         where app_id = ?1 and open_id = ?2 and user_id is not null
                         union
                         select user_id from user_auth_sessions
                         where open_id = ?2 and app_id = ?1 and user_id is not null))",
                app_id.as_str(),
                open_id.as_str()
            )
            .execute(&mut *tx)
            .await?;
            let tokens = query!(
                "delete from access_tokens where app_id = ?1 and open_id = ?2",
                app_id.as_str(),
                open_id.as_str()
            )
            .execute(&mut *tx)
            .await?;
            let profiles = query!(
                "delete from user_profiles where app_id = ?1 and open_id = ?2",
                app_id.as_str(),
                open_id.as_str()
            )
            .execute(&mut *tx)
            .await?;
            record(&mut tx, audit).await?;
            tx.commit().await?;
            Ok(Erased {
                sessions: sessions.rows_affected(),
                tokens: tokens.rows_affected(),
                profiles: profiles.rows_affected(),
            })
        })
        .await
    }
}
