use async_trait::async_trait;
use larkauth_models::{AppId, AuthSession, CardFace, FailureReason, MessageId, OpenId, SessionId, Timestamp};
use sqlx::{QueryBuilder, Sqlite, query, query_as, query_scalar};
use uuid::{Uuid, fmt::Hyphenated};

use super::SqliteStore;
use crate::{
    ActiveCounts, CodeBinding, Completion, Created, ExchangeClaim, InvitationLimit, NewSession, Result,
    SessionCursor, SessionEnding, SessionFilter, Sessions,
    rows::{SessionRow, active_counts, taken},
};

/// Whole sessions; the argument is what follows the columns.
macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "select session_id, app_id, user_id, open_id, union_id, user_name, email_sealed, mobile_sealed, auth_method,
                    state, failure_reason, scopes, card, oauth_state_sealed, pkce_verifier_sealed, message_id, card_face,
                    created_at, expires_at, completed_at
             from user_auth_sessions ",
            $rest
        )
    };
}

pub(super) const BY_ID: &str = select_sessions!("where session_id = ?1");
pub(super) const BY_STATE: &str = select_sessions!("where oauth_state_sha256 = ?1");
pub(super) const END: &str = "update user_auth_sessions set
                                  state = ?2, failure_reason = ?3, ended_at = ?4,
                                  oauth_state_sealed = null, pkce_verifier_sealed = null,
                                  exchange_claim = null, exchange_claimed_until = null
                              where session_id = ?1 and state = 'pending'
                                and (?2 = 'failed' or exchange_claim is null or exchange_claimed_until <= ?4)";
pub(super) const EXPIRE: &str = "update user_auth_sessions set
                                     state = 'expired', ended_at = ?1,
                                     oauth_state_sealed = null, pkce_verifier_sealed = null,
                                     exchange_claim = null, exchange_claimed_until = null
                                 where session_id in (
                                     select session_id from user_auth_sessions
                                     where state = 'pending' and expires_at <= ?1
                                       and (exchange_claimed_until is null or exchange_claimed_until <= ?1)
                                     order by expires_at limit ?2)
                                 returning session_id";
pub(super) const TAKE_STALE_CARDS: &str = "update user_auth_sessions set card_asked_at = ?1
                                           where session_id in (
                                               select session_id from user_auth_sessions s
                                               where card_is_stale and ended_at >= ?2 and ended_at < ?3
                                                 and (select enabled and frozen_since is null from applications a
                                                      where a.app_id = s.app_id)
                                               order by card_asked_at nulls first, ended_at limit ?4)
                                           returning app_id, session_id";

/// The list with the conditions that this call has, so that it is planned for them.
pub(super) fn list(filter: &SessionFilter, after: Option<SessionCursor>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut list = QueryBuilder::new(select_sessions!("where true"));
    if let Some(app_id) = &filter.app_id {
        list.push(" and app_id = ").push_bind(app_id.to_string());
    }
    if let Some(open_id) = &filter.open_id {
        list.push(" and open_id = ").push_bind(open_id.to_string());
    }
    if let Some(state) = filter.state {
        list.push(" and state = ").push_bind(state.as_str());
    }
    if let Some(SessionCursor { created_at, id }) = after {
        list.push(" and (created_at, session_id) < (").push_bind(created_at.timestamp_micros());
        list.push(", ").push_bind(id.0.hyphenated()).push(")");
    }
    list.push(" order by created_at desc, session_id desc limit ").push_bind(limit);
    list
}

fn session_ids(ids: Vec<Hyphenated>) -> Vec<SessionId> {
    ids.into_iter().map(|id| SessionId(id.into())).collect()
}

#[async_trait]
impl Sessions for SqliteStore {
    async fn create_session(&self, new: &NewSession, limit: InvitationLimit) -> Result<Created> {
        self.create(new, limit).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<AuthSession>> {
        let row = self
            .read("reading a session", async |db| {
                query_as::<_, SessionRow>(BY_ID).bind(id.0.hyphenated()).fetch_optional(db).await
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
        let rows: Vec<SessionRow> = self
            .read("listing sessions", async |db| {
                list(filter, after, limit).build_query_as().fetch_all(db).await
            })
            .await?;
        rows.into_iter().map(|row| row.without_secrets().into_model(&self.cipher)).collect()
    }

    async fn session_by_state(&self, state_sha256: &[u8; 32]) -> Result<Option<AuthSession>> {
        let row = self
            .read("looking up an OAuth state", async |db| {
                query_as::<_, SessionRow>(BY_STATE).bind(&state_sha256[..]).fetch_optional(db).await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }

    async fn record_card(&self, id: SessionId, message_id: &MessageId, face: CardFace) -> Result<bool> {
        let done = self
            .write("recording a card", async |db| {
                query(
                    "update user_auth_sessions set message_id = ?2, card_face = ?3
                     where session_id = ?1 and message_id is null
                       and not exists (select 1 from user_auth_sessions where message_id = ?2)",
                )
                .bind(id.0.hyphenated())
                .bind(message_id.as_str())
                .bind(face.as_str())
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn record_face(&self, id: SessionId, face: CardFace) -> Result<bool> {
        let done = self
            .write("recording a card's face", async |db| {
                query(
                    "update user_auth_sessions set card_face = ?2
                     where session_id = ?1 and message_id is not null and card_face is distinct from ?2",
                )
                .bind(id.0.hyphenated())
                .bind(face.as_str())
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn record_open_id(&self, id: SessionId, open_id: &OpenId) -> Result<bool> {
        let done = self
            .write("recording an open id", async |db| {
                query("update user_auth_sessions set open_id = ?2 where session_id = ?1 and open_id is null")
                    .bind(id.0.hyphenated())
                    .bind(open_id.as_str())
                    .execute(db)
                    .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn bind_code(&self, id: SessionId, code_sha256: &[u8; 32]) -> Result<CodeBinding> {
        self.bind(id, code_sha256).await
    }

    async fn claim_exchange(
        &self,
        id: SessionId,
        code_sha256: Option<&[u8; 32]>,
        claim: Uuid,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<ExchangeClaim> {
        self.claim(id, code_sha256, claim, now, until).await
    }

    async fn release_exchange(&self, id: SessionId, claim: Uuid) -> Result<bool> {
        self.release(id, claim).await
    }

    async fn complete_session(&self, completion: &Completion) -> Result<bool> {
        self.complete(completion).await
    }

    async fn end_session(&self, id: SessionId, ending: SessionEnding, now: Timestamp) -> Result<bool> {
        let done = self
            .write("ending a session", async |db| {
                query(END)
                    .bind(id.0.hyphenated())
                    .bind(ending.state().as_str())
                    .bind(ending.reason().map(FailureReason::as_str))
                    .bind(now.timestamp_micros())
                    .execute(db)
                    .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }

    async fn expire_due_sessions(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>> {
        let ids = self
            .write("expiring sessions", async |db| {
                query_scalar(EXPIRE).bind(now.timestamp_micros()).bind(limit).fetch_all(db).await
            })
            .await?;
        Ok(session_ids(ids))
    }

    async fn take_stale_cards(
        &self,
        now: Timestamp,
        ended_after: Timestamp,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(AppId, SessionId)>> {
        let rows: Vec<(String, Hyphenated)> = self
            .write("taking stale cards", async |db| {
                query_as(TAKE_STALE_CARDS)
                    .bind(now.timestamp_micros())
                    .bind(ended_after.timestamp_micros())
                    .bind(ended_before.timestamp_micros())
                    .bind(limit)
                    .fetch_all(db)
                    .await
            })
            .await?;
        taken(rows)
    }

    async fn active_counts(&self) -> Result<Vec<ActiveCounts>> {
        let rows: Vec<(String, i64, i64)> = self
            .read("counting sessions and tokens", async |db| {
                query_as(
                    "select app_id, coalesce(s.n, 0), coalesce(t.n, 0)
                     from applications
                     left join (select app_id, count(*) as n from user_auth_sessions
                                where state = 'pending' group by app_id) s using (app_id)
                     left join (select app_id, count(*) as n from access_tokens
                                where kind = 'user' and status = 'active' group by app_id) t using (app_id)
                     order by app_id",
                )
                .fetch_all(db)
                .await
            })
            .await?;
        active_counts(rows)
    }
}
