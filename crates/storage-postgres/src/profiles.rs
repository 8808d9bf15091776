use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, UserProfile};
use larkauth_storage::{
    AuditEntry, Erased, ProfileCursor, ProfilePage, Profiles, Result, backend::rows::ProfileRow,
};
use sqlx::{Connection, query, query_as, query_scalar};

use crate::{audit::record, store::PgStore};

#[async_trait]
impl Profiles for PgStore {
    async fn profile(&self, app_id: &AppId, open_id: &OpenId) -> Result<Option<UserProfile>> {
        let row = self
            .call("reading a profile", async |db| {
                query_as!(
                    ProfileRow,
                    "select app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed, mobile_sealed,
                            tenant_key
                     from user_profiles where app_id = $1 and open_id = $2",
                    app_id.as_str(),
                    open_id.as_str()
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }

    async fn purge_profiles(&self, after: &ProfileCursor, limit: u32) -> Result<ProfilePage> {
        self.call("purging profiles", async |db| {
            let page = query_as!(
                ProfileCursor,
                "select app_id, open_id from user_profiles
                 where (app_id, open_id) > ($1, $2) order by app_id, open_id limit $3",
                after.app_id,
                after.open_id,
                i64::from(limit)
            )
            .fetch_all(&mut *db)
            .await?;
            let Some(last) = page.into_iter().next_back() else {
                return Ok(ProfilePage { deleted: 0, last: None });
            };
            // A scalar subquery is looked up in its index for each row; the planner would join an `exists` with a table.
            let done = query!(
                "delete from user_profiles where ctid = any(array(
                     select ctid from user_profiles p
                     where (app_id, open_id) > ($1, $2) and (app_id, open_id) <= ($3, $4)
                       and (select true from access_tokens t
                            where t.app_id = p.app_id and t.open_id = p.open_id and t.status <> 'revoked' limit 1) is null
                       and (select true from user_auth_sessions s
                            where s.open_id = p.open_id and s.app_id = p.app_id limit 1) is null
                     order by app_id, open_id limit $5 for update skip locked))",
                after.app_id,
                after.open_id,
                last.app_id,
                last.open_id,
                i64::from(limit)
            )
            .execute(db)
            .await?;
            Ok(ProfilePage { deleted: done.rows_affected(), last: Some(last) })
        })
        .await
    }

    async fn person_ids(&self, app_id: &AppId, open_id: &OpenId) -> Result<Vec<String>> {
        self.call("reading the ids of a person", async |db| {
            query_scalar!(
                r#"select $2::text as "id!"
                   union select user_id from user_profiles where app_id = $1 and open_id = $2 and user_id is not null
                   union select user_id from user_auth_sessions
                         where app_id = $1 and open_id = $2 and user_id is not null"#,
                app_id.as_str(),
                open_id.as_str()
            )
            .fetch_all(db)
            .await
        })
        .await
    }

    async fn erase_person(&self, app_id: &AppId, open_id: &OpenId, audit: &AuditEntry) -> Result<Erased> {
        self.call("erasing a person", async |db| {
            let mut tx = db.begin().await?;
            // The user ids are read from the rows that the same transaction deletes. A session whose open id is not known
            // yet is the person's by its user id.
            let sessions = query!(
                "delete from user_auth_sessions where session_id = any(array(
                     select session_id from user_auth_sessions where open_id = $2 and app_id = $1
                     union
                     select session_id from user_auth_sessions
                     where app_id = $1 and open_id is null and user_id = any(array(
                         select user_id from user_profiles
                         where app_id = $1 and open_id = $2 and user_id is not null
                         union
                         select user_id from user_auth_sessions
                         where open_id = $2 and app_id = $1 and user_id is not null))))",
                app_id.as_str(),
                open_id.as_str()
            )
            .execute(&mut *tx)
            .await?;
            let tokens = query!(
                "delete from access_tokens where app_id = $1 and open_id = $2",
                app_id.as_str(),
                open_id.as_str()
            )
            .execute(&mut *tx)
            .await?;
            let profiles = query!(
                "delete from user_profiles where app_id = $1 and open_id = $2",
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
