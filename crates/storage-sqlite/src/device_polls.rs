use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{DeviceGrant, SessionId, Timestamp};
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    DevicePoll, DevicePolls, NextPoll, Result,
    backend::{
        claims::{micros as micros_of, whole_seconds},
        rows::DevicePollRow,
        sealed::sealed_device_grant,
    },
};
use sqlx::{Connection, SqliteConnection, query};
use uuid::Uuid;

use crate::{
    columns::{Id, micros},
    store::SqliteStore,
};

#[async_trait]
impl DevicePolls for SqliteStore {
    async fn record_device_grant(
        &self,
        id: SessionId,
        replaces: Option<Timestamp>,
        grant: &DeviceGrant,
        interval: Duration,
    ) -> Result<bool> {
        let sealed = sealed_device_grant(&self.cipher, id, grant)?;
        self.change("recording a device authorization", async |db| {
            query!(
                "update user_auth_sessions set
                         device_grant_sealed = ?3, device_expires_at = ?4, device_interval_seconds = ?5,
                         device_poll_at = cast(unixepoch('subsec') * 1000000 as integer) + ?6,
                         device_opened_at = null, device_poll_failures = 0, device_answer_lost = 0,
                         device_card_is_stale = ?2 is not null or message_id is not null
                     where session_id = ?1 and state = 'pending' and auth_method = 'device_code'
                       and device_expires_at is not distinct from ?2",
                id.0.hyphenated(),
                replaces.map(micros),
                &sealed,
                micros(grant.expires_at),
                whole_seconds(interval),
                micros_of(interval)
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn record_device_opened(&self, id: SessionId, now: Timestamp) -> Result<bool> {
        self.change("recording that a device page was opened", async |db| {
            query!(
                "update user_auth_sessions set device_opened_at = ?2
                     where session_id = ?1 and device_grant_sealed is not null and device_opened_at is null",
                id.0.hyphenated(),
                micros(now)
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn record_device_card(&self, id: SessionId, expires_at: Timestamp) -> Result<bool> {
        self.change("recording a card's device code", async |db| {
            query!(
                "update user_auth_sessions set device_card_is_stale = 0
                     where session_id = ?1 and device_card_is_stale and device_expires_at = ?2",
                id.0.hyphenated(),
                micros(expires_at)
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn claim_device_polls(
        &self,
        expiring_before: Timestamp,
        frozen_before: Timestamp,
        idle: Duration,
        claims: &[Uuid],
        life: Duration,
    ) -> Result<Vec<DevicePoll>> {
        self.write("claiming device polls", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let due = due(&mut tx, expiring_before, frozen_before, idle, claims).await?;
            for poll in &due {
                claim(&mut tx, poll, life).await?;
            }
            tx.commit().await?;
            Ok(due)
        })
        .await
    }

    async fn postpone_device_poll(&self, id: SessionId, claim: Uuid, next: NextPoll) -> Result<bool> {
        self.change("postponing a device poll", async |db| {
            query!(
                "update user_auth_sessions set
                         exchange_claim = null, exchange_claimed_until = null, exchange_sent_at = null,
                         exchange_unanswered_at = null,
                         device_poll_at = cast(unixepoch('subsec') * 1000000 as integer) + ?3,
                         device_interval_seconds = ?4, device_poll_failures = ?5, device_answer_lost = ?6
                     where session_id = ?1 and exchange_claim = ?2 and device_poll_at is not null
                       and exchange_escrow_sealed is null",
                id.0.hyphenated(),
                claim.hyphenated(),
                micros_of(next.after),
                whole_seconds(next.interval),
                next.failures,
                next.is_answer_lost
            )
            .execute(db)
            .await
        })
        .await
    }
}

/// Returns the polls that are due, at most one for each claim. The transaction excludes other callers.
async fn due(
    db: &mut SqliteConnection,
    expiring_before: Timestamp,
    frozen_before: Timestamp,
    idle: Duration,
    claims: &[Uuid],
) -> sqlx::Result<Vec<DevicePoll>> {
    let limit = i64::try_from(claims.len()).unwrap_or(i64::MAX);
    let rows = query!(
        r#"select session_id as "session_id!: Id", device_interval_seconds as "interval_seconds!: i64",
                  device_opened_at is not null as "is_opened!: bool", device_poll_failures as "failures!: i64",
                  device_answer_lost or exchange_sent_at is not null as "is_answer_lost!: bool",
                  (select enabled from applications a where a.app_id = s.app_id) as "is_enabled!: bool"
           from user_auth_sessions s
           where device_poll_at <= cast(unixepoch('subsec') * 1000000 as integer)
             and (device_opened_at is not null or device_expires_at <= ?1
                  or device_poll_at <= cast(unixepoch('subsec') * 1000000 as integer) - ?3)
             and exchange_escrow_sealed is null
             and (exchange_claim is null
                  or (exchange_claimed_until <= cast(unixepoch('subsec') * 1000000 as integer)
                      and (exchange_sent_at is null or exchange_unanswered_at is not null)))
             and (select frozen_since is null or frozen_since <= ?2 from applications a where a.app_id = s.app_id)
           order by device_poll_at limit ?4"#,
        micros(expiring_before),
        micros(frozen_before),
        micros_of(idle),
        limit
    )
    .fetch_all(db)
    .await?;
    let polls = rows.into_iter().zip(claims).map(|(row, claim)| {
        let row = DevicePollRow {
            session_id: row.session_id.into(),
            claim: *claim,
            interval_seconds: row.interval_seconds,
            is_opened: row.is_opened,
            failures: row.failures,
            is_answer_lost: row.is_answer_lost,
            is_enabled: row.is_enabled,
        };
        row.into_model()
    });
    Ok(polls.collect())
}

/// Claims one poll, within the transaction that found it.
async fn claim(db: &mut SqliteConnection, poll: &DevicePoll, life: Duration) -> sqlx::Result<()> {
    query!(
        "update user_auth_sessions set
             exchange_claim = ?2,
             exchange_claimed_until = cast(unixepoch('subsec') * 1000000 as integer) + ?3,
             exchange_sent_at = cast(unixepoch('subsec') * 1000000 as integer), exchange_unanswered_at = null,
             device_answer_lost = ?4
         where session_id = ?1",
        poll.session_id.0.hyphenated(),
        poll.claim.hyphenated(),
        micros_of(life),
        poll.is_answer_lost
    )
    .execute(db)
    .await?;
    Ok(())
}
