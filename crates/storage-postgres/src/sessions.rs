use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{
    AppId, AuthSession, CardFace, FailureReason, MessageId, OpenId, SessionId, SessionState, Timestamp,
    TokenPair,
};
use sqlx::{Connection, query, query_as, query_scalar};
use uuid::Uuid;

use larkauth_storage::{
    ActiveCounts, AuditEntry, CodeBinding, Completion, Created, EndCursor, ExchangeClaim, InvitationLimit,
    InvitationPause, NewSession, Result, Sealed, SessionCursor, SessionEnding, SessionFilter, Sessions,
    UnannouncedEnd,
    backend::rows::{EndRow, SessionRow, active_counts, claimed_cards},
};

use crate::{audit::recorded, store::PgStore};

/// Selects whole sessions. The arguments are the rest of the statement after `from`, and its parameters.
macro_rules! select_sessions {
    ($rest:tt, $($parameter:expr),+) => {
        query_as!(
            SessionRow,
            "select session_id, app_id, user_id, open_id, asked_open_id, asked_user_id, union_id, user_name, email_sealed, mobile_sealed, auth_method,
                    state, failure_reason, scopes, granted_scopes, card, oauth_state_sealed, pkce_verifier_sealed,
                    device_grant_sealed, device_expires_at, device_card_is_stale, message_id, card_face,
                    created_at, expires_at, completed_at
             from user_auth_sessions " + $rest,
            $($parameter),+
        )
    };
}

#[async_trait]
impl Sessions for PgStore {
    async fn create_session(&self, new: &NewSession, limit: InvitationLimit) -> Result<Created> {
        self.create(new, limit, None).await
    }

    async fn create_session_unless_asked(
        &self,
        new: &NewSession,
        limit: InvitationLimit,
        pause: InvitationPause,
    ) -> Result<Created> {
        self.create(new, limit, Some(pause)).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<AuthSession>> {
        let row = self
            .call("reading a session", async |db| {
                select_sessions!("where session_id = $1", id.0).fetch_optional(db).await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }

    async fn list_sessions(
        &self,
        filter: &SessionFilter,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Result<Vec<AuthSession>> {
        let rows = self
            .call("listing sessions", async |db| {
                // Each call gets a plan for its own filters. A generic plan would use no index for most of them.
                let mut tx = db.begin().await?;
                query!("set local plan_cache_mode = force_custom_plan").execute(&mut *tx).await?;
                let rows = select_sessions!(
                    "where ($1::text is null or app_id = $1)
                       and ($2::text is null or open_id = $2)
                       and ($3::text is null or state = $3)
                       and ($4::timestamptz is null or (created_at, session_id) < ($4, $5))
                       and ($7::text[] = '{}' or app_id = any($7))
                     order by created_at desc, session_id desc limit $6",
                    filter.app_id.as_ref().map(AsRef::as_ref) as Option<&str>,
                    filter.open_id.as_ref().map(AsRef::as_ref) as Option<&str>,
                    filter.state.map(SessionState::as_str),
                    after.map(|cursor| cursor.created_at),
                    after.map(|cursor| cursor.id.0),
                    i64::from(limit),
                    &filter.app_ids
                )
                .fetch_all(&mut *tx)
                .await?;
                tx.commit().await?;
                Ok(rows)
            })
            .await?;
        rows.into_iter().map(|row| row.without_secrets().into_model(&self.cipher)).collect()
    }

    async fn session_by_state(&self, state_sha256: &[u8; 32]) -> Result<Option<AuthSession>> {
        let row = self
            .call("looking up an OAuth state", async |db| {
                select_sessions!("where oauth_state_sha256 = $1", &state_sha256[..]).fetch_optional(db).await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }

    async fn record_card(&self, id: SessionId, message_id: &MessageId, face: CardFace) -> Result<bool> {
        self.change("recording a card", async |db| {
            query!(
                "update user_auth_sessions set message_id = $2, card_face = $3
                     where session_id = $1 and message_id is null
                       and not exists (select 1 from user_auth_sessions where message_id = $2)",
                id.0,
                message_id.as_str(),
                face.as_str()
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn record_face(&self, id: SessionId, face: CardFace) -> Result<bool> {
        self.change("recording a card's face", async |db| {
            query!(
                "update user_auth_sessions set card_face = $2
                     where session_id = $1 and message_id is not null and card_face is distinct from $2",
                id.0,
                face.as_str()
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn record_open_id(&self, id: SessionId, open_id: &OpenId) -> Result<bool> {
        self.change("recording an open id", async |db| {
            query!(
                "update user_auth_sessions set open_id = $2 where session_id = $1 and open_id is null",
                id.0,
                open_id.as_str()
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn bind_code(&self, id: SessionId, code_sha256: &[u8; 32]) -> Result<CodeBinding> {
        self.bind(id, code_sha256).await
    }

    async fn claim_exchange(
        &self,
        id: SessionId,
        code_sha256: Option<&[u8; 32]>,
        claim: Uuid,
        life: Duration,
    ) -> Result<ExchangeClaim> {
        self.claim(id, code_sha256, claim, life).await
    }

    async fn mark_exchange_sent(&self, id: SessionId, claim: Uuid) -> Result<bool> {
        self.mark_sent(id, claim).await
    }

    async fn escrow_exchange(&self, id: SessionId, claim: Uuid, pair: &Sealed) -> Result<bool> {
        self.escrow(id, claim, pair).await
    }

    async fn replace_escrow(&self, id: SessionId, claim: Uuid, pair: &Sealed) -> Result<bool> {
        self.put_escrow_again(id, claim, pair).await
    }

    async fn escrowed_pair(&self, id: SessionId, claim: Uuid) -> Result<Option<TokenPair>> {
        self.escrowed(id, claim).await
    }

    async fn unfinished_exchanges(&self, limit: u32) -> Result<Vec<SessionId>> {
        self.unfinished(limit).await
    }

    async fn release_exchange(&self, id: SessionId, claim: Uuid) -> Result<bool> {
        self.release(id, claim).await
    }

    async fn complete_session(&self, completion: &Completion) -> Result<bool> {
        self.complete(completion).await
    }

    async fn end_session(&self, id: SessionId, ending: SessionEnding, audit: &AuditEntry) -> Result<bool> {
        self.call("ending a session", async |db| {
            let mut tx = db.begin().await?;
            let done = query!(
                "update user_auth_sessions set
                     state = $2, failure_reason = $3, ended_at = $4, announced_at = null,
                     oauth_state_sealed = null, pkce_verifier_sealed = null,
                     exchange_claim = null, exchange_claimed_until = null, exchange_sent_at = null,
                     exchange_unanswered_at = null, exchange_escrow_sealed = null,
                     device_grant_sealed = null, device_expires_at = null, device_interval_seconds = null,
                     device_poll_at = null, device_opened_at = null
                 where session_id = $1 and state = 'pending'
                   and ($2 = 'failed' or (exchange_sent_at is null
                        and (exchange_claim is null or exchange_claimed_until <= clock_timestamp()))
                        or ($2 = 'rejected' and device_poll_at is not null and exchange_escrow_sealed is null))",
                id.0,
                ending.state().as_str(),
                ending.reason().map(FailureReason::as_str),
                audit.at
            )
            .execute(&mut *tx)
            .await?;
            recorded(tx, done, audit).await
        })
        .await
    }

    async fn expire_due_sessions(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>> {
        let ids = self
            .call("expiring sessions", async |db| {
                query_scalar!(
                    "update user_auth_sessions set
                         state = 'expired', ended_at = $1, announced_at = null,
                         oauth_state_sealed = null, pkce_verifier_sealed = null,
                         exchange_claim = null, exchange_claimed_until = null,
                         device_grant_sealed = null, device_expires_at = null, device_interval_seconds = null,
                         device_poll_at = null, device_opened_at = null
                     where session_id = any(array(
                         select session_id from user_auth_sessions
                         where state = 'pending' and expires_at <= $1
                           and exchange_sent_at is null
                           and (exchange_claimed_until is null or exchange_claimed_until <= clock_timestamp())
                         order by expires_at limit $2
                         for update skip locked))
                     returning session_id",
                    now,
                    i64::from(limit)
                )
                .fetch_all(db)
                .await
            })
            .await?;
        Ok(ids.into_iter().map(SessionId).collect())
    }

    async fn claim_unreconciled_cards(
        &self,
        now: Timestamp,
        ended_after: Timestamp,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(AppId, SessionId)>> {
        let rows = self
            .call("claiming cards to reconcile", async |db| {
                query!(
                    "update user_auth_sessions set card_asked_at = $1
                     where session_id = any(array(
                         select session_id from user_auth_sessions s
                         where card_is_stale and ended_at >= $2 and ended_at < $3
                           and (select enabled and frozen_since is null from applications a where a.app_id = s.app_id)
                         order by card_asked_at nulls first, ended_at limit $4
                         for update skip locked))
                     returning app_id, session_id",
                    now,
                    ended_after,
                    ended_before,
                    i64::from(limit)
                )
                .fetch_all(db)
                .await
            })
            .await?;
        claimed_cards(rows.into_iter().map(|row| (row.app_id, row.session_id)))
    }

    async fn unannounced_ends(
        &self,
        ended_before: Timestamp,
        after: Option<EndCursor>,
        limit: u32,
    ) -> Result<Vec<UnannouncedEnd>> {
        let rows = self
            .call("reading unannounced ends", async |db| {
                query_as!(
                    EndRow,
                    r#"select session_id, app_id, user_id, open_id, state, failure_reason, ended_at as "ended_at!"
                       from user_auth_sessions
                       where announced_at is null and ended_at is not null and ended_at < $1
                         and (ended_at, session_id) > ($2, $3)
                       order by ended_at, session_id limit $4"#,
                    ended_before,
                    after.map_or(Timestamp::UNIX_EPOCH, |end| end.ended_at),
                    after.map_or(Uuid::nil(), |end| end.id.0),
                    i64::from(limit)
                )
                .fetch_all(db)
                .await
            })
            .await?;
        rows.into_iter().map(EndRow::into_model).collect()
    }

    async fn record_announced(&self, id: SessionId, now: Timestamp) -> Result<bool> {
        self.change("recording an announcement", async |db| {
            query!(
                "update user_auth_sessions set announced_at = $2
                     where session_id = $1 and announced_at is null and ended_at is not null",
                id.0,
                now
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn purge_sessions(&self, before: Timestamp, limit: u32) -> Result<u64> {
        let done = self
            .call("purging sessions", async |db| {
                query!(
                    "delete from user_auth_sessions where session_id = any(array(
                         select session_id from user_auth_sessions
                         where created_at < $1 and state <> 'pending' and announced_at is not null
                         order by created_at, session_id limit $2 for update skip locked))",
                    before,
                    i64::from(limit)
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected())
    }

    async fn active_counts(&self) -> Result<Vec<ActiveCounts>> {
        let rows = self
            .call("counting sessions and tokens", async |db| {
                query!(
                    r#"select app_id,
                              (select count(*) from user_auth_sessions s
                               where s.app_id = a.app_id and s.state = 'pending') as "sessions!",
                              (select count(*) from access_tokens t
                               where t.app_id = a.app_id and t.kind = 'user' and t.status = 'active') as "tokens!",
                              (select count(*) from access_tokens t
                               where t.app_id = a.app_id and t.kind = 'user' and t.status = 'suspended') as "suspended!"
                       from applications a order by app_id"#
                )
                .fetch_all(db)
                .await
            })
            .await?;
        active_counts(rows.into_iter().map(|row| (row.app_id, row.sessions, row.tokens, row.suspended)))
    }
}
