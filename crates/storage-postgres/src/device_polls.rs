use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{DeviceGrant, SessionId, Timestamp};
use larkauth_storage::{
    DevicePoll, DevicePolls, NextPoll, Result,
    backend::{
        claims::{micros, whole_seconds},
        rows::DevicePollRow,
        sealed::sealed_device_grant,
    },
};
use sqlx::{query, query_as};
use uuid::Uuid;

use crate::store::PgStore;

#[async_trait]
impl DevicePolls for PgStore {
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
                         device_grant_sealed = $3, device_expires_at = $4, device_interval_seconds = $5,
                         device_poll_at = clock_timestamp() + $6::bigint * interval '1 microsecond',
                         device_opened_at = null, device_poll_failures = 0, device_answer_lost = false,
                         device_card_is_stale = $2::timestamptz is not null or message_id is not null
                     where session_id = $1 and state = 'pending' and auth_method = 'device_code'
                       and device_expires_at is not distinct from $2",
                id.0,
                replaces,
                sealed,
                grant.expires_at,
                whole_seconds(interval),
                micros(interval)
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn record_device_opened(&self, id: SessionId, now: Timestamp) -> Result<bool> {
        self.change("recording that a device page was opened", async |db| {
            query!(
                "update user_auth_sessions set device_opened_at = $2
                     where session_id = $1 and device_grant_sealed is not null and device_opened_at is null",
                id.0,
                now
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn record_device_card(&self, id: SessionId, expires_at: Timestamp) -> Result<bool> {
        self.change("recording a card's device code", async |db| {
            query!(
                "update user_auth_sessions set device_card_is_stale = false
                     where session_id = $1 and device_card_is_stale and device_expires_at = $2",
                id.0,
                expires_at
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
        let rows = self
            .call("claiming device polls", async |db| {
                // The claims are numbered outside the locking query, which permits no window function.
                query_as!(
                    DevicePollRow,
                    r#"with due as (
                           select session_id from user_auth_sessions s
                           where device_poll_at <= statement_timestamp()
                             and (device_opened_at is not null or device_expires_at <= $1
                                  or device_poll_at <= statement_timestamp() - $3::bigint * interval '1 microsecond')
                             and exchange_escrow_sealed is null
                             and (exchange_claim is null
                                  or (exchange_claimed_until <= clock_timestamp()
                                      and (exchange_sent_at is null or exchange_unanswered_at is not null)))
                             and (select frozen_since is null or frozen_since <= $2
                                  from applications a where a.app_id = s.app_id)
                           order by device_poll_at limit cardinality($4::uuid[])
                           for update skip locked),
                       numbered as (select session_id, row_number() over () as number from due)
                       update user_auth_sessions s set
                           exchange_claim = ($4::uuid[])[numbered.number::integer],
                           exchange_claimed_until = clock_timestamp() + $5::bigint * interval '1 microsecond',
                           exchange_sent_at = clock_timestamp(), exchange_unanswered_at = null,
                           device_answer_lost = device_answer_lost or exchange_sent_at is not null
                       from numbered where s.session_id = numbered.session_id
                       returning s.session_id, exchange_claim as "claim!",
                                 device_interval_seconds::bigint as "interval_seconds!",
                                 device_opened_at is not null as "is_opened!",
                                 device_poll_failures::bigint as "failures!", device_answer_lost as is_answer_lost,
                                 (select enabled from applications a where a.app_id = s.app_id) as "is_enabled!""#,
                    expiring_before,
                    frozen_before,
                    micros(idle),
                    claims,
                    micros(life)
                )
                .fetch_all(db)
                .await
            })
            .await?;
        Ok(rows.into_iter().map(DevicePollRow::into_model).collect())
    }

    async fn postpone_device_poll(&self, id: SessionId, claim: Uuid, next: NextPoll) -> Result<bool> {
        self.change("postponing a device poll", async |db| {
            query!(
                "update user_auth_sessions set
                         exchange_claim = null, exchange_claimed_until = null, exchange_sent_at = null,
                         exchange_unanswered_at = null,
                         device_poll_at = clock_timestamp() + $3::bigint * interval '1 microsecond',
                         device_interval_seconds = $4, device_poll_failures = $5, device_answer_lost = $6
                     where session_id = $1 and exchange_claim = $2 and device_poll_at is not null
                       and exchange_escrow_sealed is null",
                id.0,
                claim,
                micros(next.after),
                whole_seconds(next.interval),
                i32::try_from(next.failures).unwrap_or(i32::MAX),
                next.is_answer_lost
            )
            .execute(db)
            .await
        })
        .await
    }
}
