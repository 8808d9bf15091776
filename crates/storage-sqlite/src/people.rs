use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{AppId, OpenId, SuspensionReason, Timestamp, UnionId, UserId, UserProfile};
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    AuditEntry, LeasedToken, MAX_CLOCK_LEAD, People, Result, UnannouncedPerson,
    backend::{
        rows::{UnannouncedRow, open_ids, suspensions},
        sealed::SealedProfile,
    },
};
use sqlx::{Connection, query, query_as, query_scalar, types::Json};
use uuid::Uuid;

use crate::{audit::recorded, columns::micros, refreshes::take_lease, store::SqliteStore};

#[async_trait]
impl People for SqliteStore {
    async fn people_to_sync(
        &self,
        app_id: &AppId,
        synced_before: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<OpenId>> {
        let mut rows = self
            .read("looking for people to look up", async |db| {
                query_scalar!(
                    "select open_id from user_profiles where app_id = ?1 and synced_at < ?2
                     order by synced_at, open_id limit ?3",
                    app_id.as_str(),
                    micros(synced_before),
                    limit
                )
                .fetch_all(db)
                .await
            })
            .await?;
        if rows.is_empty() {
            rows = self
                .read("looking for people of a wrong clock", async |db| {
                    query_scalar!(
                        "select open_id from user_profiles where app_id = ?1 and synced_at > ?2
                         order by synced_at limit ?3",
                        app_id.as_str(),
                        micros(now + MAX_CLOCK_LEAD),
                        limit
                    )
                    .fetch_all(db)
                    .await
                })
                .await?;
        }
        open_ids(rows)
    }

    async fn count_to_sync(&self, app_id: &AppId, synced_before: Timestamp) -> Result<u64> {
        let count = self
            .read("counting people to look up", async |db| {
                query_scalar!(
                    r#"select count(*) as "count!: i64" from user_profiles where app_id = ?1 and synced_at < ?2"#,
                    app_id.as_str(),
                    micros(synced_before)
                )
                .fetch_one(db)
                .await
            })
            .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn claim_sync(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        synced_before: Timestamp,
        now: Timestamp,
    ) -> Result<bool> {
        self.change("claiming the look at a person", async |db| {
            query!(
                "update user_profiles set synced_at = ?4
                     where app_id = ?1 and open_id = ?2 and (synced_at < ?3 or synced_at > ?5)",
                app_id.as_str(),
                open_id.as_str(),
                micros(synced_before),
                micros(now),
                micros(now + MAX_CLOCK_LEAD)
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn store_synced(
        &self,
        app_id: &AppId,
        profiles: &[UserProfile],
        others: &[OpenId],
        now: Timestamp,
    ) -> Result<()> {
        let sealed = profiles.iter().map(|profile| SealedProfile::new(&self.cipher, app_id, profile));
        let sealed: Vec<SealedProfile> = sealed.collect::<Result<_>>()?;
        self.write("storing what Lark says of people", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            for (profile, sealed) in profiles.iter().zip(&sealed) {
                query!(
                    "update user_profiles set
                         union_id = coalesce(?3, union_id), user_id = coalesce(?4, user_id), name = coalesce(?5, name),
                         en_name = coalesce(?6, en_name), avatar_url = coalesce(?7, avatar_url),
                         email_sealed = coalesce(?8, email_sealed), mobile_sealed = coalesce(?9, mobile_sealed),
                         tenant_key = coalesce(?10, tenant_key), updated_at = ?11, synced_at = ?11
                     where app_id = ?1 and open_id = ?2",
                    app_id.as_str(),
                    profile.open_id.as_str(),
                    profile.union_id.as_ref().map(UnionId::as_str),
                    profile.user_id.as_ref().map(UserId::as_str),
                    profile.name.as_deref(),
                    profile.en_name.as_deref(),
                    profile.avatar_url.as_deref(),
                    sealed.email.as_deref(),
                    sealed.mobile.as_deref(),
                    profile.tenant_key.as_deref(),
                    micros(now)
                )
                .execute(&mut *tx)
                .await?;
            }
            let others: Vec<&str> = others.iter().map(OpenId::as_str).collect();
            query!(
                "update user_profiles set synced_at = ?3
                 where app_id = ?1 and open_id in (select value from json_each(?2))",
                app_id.as_str(),
                Json(&others),
                micros(now)
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await
        })
        .await
    }

    async fn suspended(
        &self,
        app_id: &AppId,
        open_ids: &[OpenId],
    ) -> Result<Vec<(OpenId, SuspensionReason)>> {
        let people: Vec<&str> = open_ids.iter().map(OpenId::as_str).collect();
        let rows = self
            .read("looking for suspended people", async |db| {
                query!(
                    "select open_id, suspended_for from access_tokens
                     where app_id = ?1 and open_id in (select value from json_each(?2)) and kind = 'user'
                       and status = 'suspended'",
                    app_id.as_str(),
                    Json(&people)
                )
                .fetch_all(db)
                .await
            })
            .await?;
        suspensions(rows.into_iter().map(|row| (row.open_id, row.suspended_for)))
    }

    async fn suspend_person(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        reason: SuspensionReason,
        audit: &AuditEntry,
    ) -> Result<bool> {
        self.write("suspending a person", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            // A pair on its way is stored by its generation, and the result of a lease that ends here counts no more.
            let done = query!(
                "update access_tokens set
                     status = 'suspended', suspended_for = ?3, lease_owner = null, lease_until = null,
                     next_attempt_at = null
                 where app_id = ?1 and open_id = ?2 and kind = 'user'
                   and status in ('active', 'outcome_unknown', 'reauthorization_required')",
                app_id.as_str(),
                open_id.as_str(),
                reason.as_str()
            )
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 0 {
                query!(
                    "update access_tokens set suspended_for = ?3
                     where app_id = ?1 and open_id = ?2 and kind = 'user' and status = 'suspended'
                       and coalesce(suspended_for, 'refused') = 'refused'",
                    app_id.as_str(),
                    open_id.as_str(),
                    reason.as_str()
                )
                .execute(&mut *tx)
                .await?;
                // No suspension, so no record of one.
                tx.commit().await?;
                return Ok(false);
            }
            recorded(tx, done, audit).await
        })
        .await
    }

    async fn restore_person(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        refreshed: bool,
        audit: &AuditEntry,
    ) -> Result<bool> {
        self.write("restoring a person", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let done = query!(
                "update access_tokens set
                     status = case when refresh_token_sealed is not null
                                    and (refresh_expires_at is null or refresh_expires_at > ?4)
                              then 'active' else 'reauthorization_required' end,
                     suspended_for = null, failures = 0, lease_owner = null, lease_until = null, ask_at = 0,
                     next_attempt_at = case when ?3 then next_attempt_at else ?4 end
                 where app_id = ?1 and open_id = ?2 and kind = 'user' and status = 'suspended'
                   and (?3 or coalesce(suspended_for, 'refused') <> 'refused')",
                app_id.as_str(),
                open_id.as_str(),
                refreshed,
                micros(audit.at)
            )
            .execute(&mut *tx)
            .await?;
            recorded(tx, done, audit).await
        })
        .await
    }

    async fn claim_suspended(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        owner: Uuid,
        life: Duration,
    ) -> Result<Option<LeasedToken>> {
        const DURING: &str = "taking the lease of a suspended token";
        let row =
            self.write(DURING, async |db| take_lease(db, app_id, open_id, true, owner, life).await).await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }

    async fn unannounced_people(
        &self,
        after: Option<&UnannouncedPerson>,
        limit: u32,
    ) -> Result<Vec<UnannouncedPerson>> {
        let rows = self
            .read("looking for suspensions that are not announced", async |db| {
                query_as!(
                    UnannouncedRow,
                    r#"select app_id as "app_id!", open_id as "open_id!",
                           (select user_id from user_profiles p
                            where p.app_id = t.app_id and p.open_id = t.open_id) as user_id,
                           status = 'suspended' as "is_suspended!: bool", suspended_for,
                           status_announcements as "status_announcements!: i32"
                       from access_tokens t
                       where (status = 'suspended') <> (status_announcements % 2 = 1) and status <> 'revoked'
                         and kind = 'user' and (app_id, open_id) > (?1, ?2)
                       order by app_id, open_id limit ?3"#,
                    after.map_or("", |last| last.app_id.as_str()),
                    after.map_or("", |last| last.open_id.as_str()),
                    limit
                )
                .fetch_all(db)
                .await
            })
            .await?;
        rows.into_iter().map(UnannouncedRow::into_model).collect()
    }

    async fn record_person_announced(&self, announced: &UnannouncedPerson) -> Result<bool> {
        self.change("recording an announced suspension", async |db| {
            query!(
                "update access_tokens set status_announcements = status_announcements + 1
                     where app_id = ?1 and open_id = ?2 and kind = 'user' and status_announcements = ?3",
                announced.app_id.as_str(),
                announced.open_id.as_str(),
                announced.earlier
            )
            .execute(db)
            .await
        })
        .await
    }
}
