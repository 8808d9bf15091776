use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::{
    AppId, AuthSession, CardFace, FailureReason, MessageId, OpenId, SessionId, SessionState, Timestamp,
    TokenPair,
};
use larkauth_sqlite::BEGIN_WRITING;
use sqlx::{Connection, SqliteConnection, query, query_as, query_scalar, types::Json};
use uuid::Uuid;

use larkauth_storage::{
    ActiveCounts, AuditEntry, CodeBinding, Completion, Created, EndCursor, ExchangeClaim, InvitationLimit,
    InvitationPause, NewSession, Result, Sealed, SessionCursor, SessionEnding, SessionFilter, Sessions,
    UnannouncedEnd,
    backend::rows::{EndRow, SessionRow, active_counts, claimed_cards},
};

use crate::{
    audit::recorded,
    columns::{Id, JsonValue, Micros, OptionalMicros, OptionalTexts, Texts, micros},
    store::SqliteStore,
};

/// Selects whole sessions. The arguments are the rest of the statement after `from`, and its parameters.
macro_rules! select_sessions {
    ($rest:tt, $($parameter:expr),+) => {
        query_as!(
            SessionRow,
            r#"select session_id as "session_id!: Id", app_id, user_id, open_id, asked_open_id, asked_user_id, union_id, user_name, email_sealed,
                      mobile_sealed, auth_method, state, failure_reason, scopes as "scopes!: Texts",
                      granted_scopes as "granted_scopes!: OptionalTexts", card as "card!: JsonValue", oauth_state_sealed, pkce_verifier_sealed,
                      device_grant_sealed, device_expires_at as "device_expires_at!: OptionalMicros",
                      device_card_is_stale as "device_card_is_stale!: bool", message_id, card_face,
                      created_at as "created_at!: Micros", expires_at as "expires_at!: Micros",
                      completed_at as "completed_at!: OptionalMicros"
               from user_auth_sessions "# + $rest,
            $($parameter),+
        )
    };
}

#[async_trait]
impl Sessions for SqliteStore {
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
            .read("reading a session", async |db| {
                let id = id.0.hyphenated();
                select_sessions!("where session_id = ?1", id).fetch_optional(db).await
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
        let rows = self.read("listing sessions", async |db| list(db, filter, after, limit).await).await?;
        rows.into_iter().map(|row| row.without_secrets().into_model(&self.cipher)).collect()
    }

    async fn session_by_state(&self, state_sha256: &[u8; 32]) -> Result<Option<AuthSession>> {
        let row = self
            .read("looking up an OAuth state", async |db| {
                let state = &state_sha256[..];
                select_sessions!("where oauth_state_sha256 = ?1", state).fetch_optional(db).await
            })
            .await?;
        row.map(|row| row.into_model(&self.cipher)).transpose()
    }

    async fn record_card(&self, id: SessionId, message_id: &MessageId, face: CardFace) -> Result<bool> {
        self.change("recording a card", async |db| {
            query!(
                "update user_auth_sessions set message_id = ?2, card_face = ?3
                     where session_id = ?1 and message_id is null
                       and not exists (select 1 from user_auth_sessions where message_id = ?2)",
                id.0.hyphenated(),
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
                "update user_auth_sessions set card_face = ?2
                     where session_id = ?1 and message_id is not null and card_face is distinct from ?2",
                id.0.hyphenated(),
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
                "update user_auth_sessions set open_id = ?2 where session_id = ?1 and open_id is null",
                id.0.hyphenated(),
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
        self.write("ending a session", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let done = query!(
                "update user_auth_sessions set
                     state = ?2, failure_reason = ?3, ended_at = ?4, announced_at = null,
                     oauth_state_sealed = null, pkce_verifier_sealed = null,
                     exchange_claim = null, exchange_claimed_until = null, exchange_sent_at = null,
                     exchange_unanswered_at = null, exchange_escrow_sealed = null,
                     device_grant_sealed = null, device_expires_at = null, device_interval_seconds = null,
                     device_poll_at = null, device_opened_at = null
                 where session_id = ?1 and state = 'pending'
                   and (?2 = 'failed' or (exchange_sent_at is null
                        and (exchange_claim is null
                             or exchange_claimed_until <= cast(unixepoch('subsec') * 1000000 as integer)))
                        or (?2 = 'rejected' and device_poll_at is not null and exchange_escrow_sealed is null))",
                id.0.hyphenated(),
                ending.state().as_str(),
                ending.reason().map(FailureReason::as_str),
                micros(audit.at)
            )
            .execute(&mut *tx)
            .await?;
            recorded(tx, done, audit).await
        })
        .await
    }

    async fn expire_due_sessions(&self, now: Timestamp, limit: u32) -> Result<Vec<SessionId>> {
        let ids = self
            .write("expiring sessions", async |db| {
                query_scalar!(
                    r#"update user_auth_sessions set
                                     state = 'expired', ended_at = ?1, announced_at = null,
                                     oauth_state_sealed = null, pkce_verifier_sealed = null,
                                     exchange_claim = null, exchange_claimed_until = null,
                                     device_grant_sealed = null, device_expires_at = null,
                                     device_interval_seconds = null, device_poll_at = null, device_opened_at = null
                                 where session_id in (
                                     select session_id from user_auth_sessions
                                     where state = 'pending' and expires_at <= ?1
                                       and exchange_sent_at is null
                                       and (exchange_claimed_until is null
                                            or exchange_claimed_until <= cast(unixepoch('subsec') * 1000000 as integer))
                                     order by expires_at limit ?2)
                                 returning session_id as "id!: Id""#,
                    now.timestamp_micros(),
                    limit
                )
                .fetch_all(db)
                .await
            })
            .await?;
        Ok(ids.into_iter().map(|id| SessionId(id.into())).collect())
    }

    async fn claim_unreconciled_cards(
        &self,
        now: Timestamp,
        ended_after: Timestamp,
        ended_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(AppId, SessionId)>> {
        let rows = self
            .write("claiming cards to reconcile", async |db| {
                query!(r#"update user_auth_sessions set card_asked_at = ?1
                                           where session_id in (
                                               select session_id from user_auth_sessions s
                                               where card_is_stale and ended_at >= ?2 and ended_at < ?3
                                                 and (select enabled and frozen_since is null from applications a
                                                      where a.app_id = s.app_id)
                                               order by card_asked_at nulls first, ended_at limit ?4)
                                           returning app_id, session_id as "session_id!: Id""#, now.timestamp_micros(), ended_after.timestamp_micros(), ended_before.timestamp_micros(), limit)
                    .fetch_all(db)
                    .await
            })
            .await?;
        claimed_cards(rows.into_iter().map(|row| (row.app_id, Uuid::from(row.session_id))))
    }

    async fn unannounced_ends(
        &self,
        ended_before: Timestamp,
        after: Option<EndCursor>,
        limit: u32,
    ) -> Result<Vec<UnannouncedEnd>> {
        let (ended_before, ended_at) =
            (micros(ended_before), after.map_or(i64::MIN, |end| micros(end.ended_at)));
        let id = after.map(|end| end.id.0.hyphenated().to_string()).unwrap_or_default();
        let rows = self
            .read("reading unannounced ends", async |db| {
                query_as!(
                    EndRow,
                    r#"select session_id as "session_id!: Id", app_id, user_id, open_id, state, failure_reason,
                              ended_at as "ended_at!: Micros"
                       from user_auth_sessions
                       where announced_at is null and ended_at is not null and ended_at < ?1
                         and (ended_at, session_id) > (?2, ?3)
                       order by ended_at, session_id limit ?4"#,
                    ended_before,
                    ended_at,
                    id,
                    limit
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
                "update user_auth_sessions set announced_at = ?2
                     where session_id = ?1 and announced_at is null and ended_at is not null",
                id.0.hyphenated(),
                micros(now)
            )
            .execute(db)
            .await
        })
        .await
    }

    async fn purge_sessions(&self, before: Timestamp, limit: u32) -> Result<u64> {
        let done = self
            .write("purging sessions", async |db| {
                query!(
                    "delete from user_auth_sessions where session_id in (
                         select session_id from user_auth_sessions
                         where created_at < ?1 and state <> 'pending' and announced_at is not null
                         order by created_at, session_id limit ?2)",
                    before.timestamp_micros(),
                    limit
                )
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected())
    }

    async fn active_counts(&self) -> Result<Vec<ActiveCounts>> {
        let rows = self
            .read("counting sessions and tokens", async |db| {
                query!(
                    r#"select app_id,
                            (select count(*) from user_auth_sessions s
                             where s.app_id = a.app_id and s.state = 'pending') as "sessions!: i64",
                            (select count(*) from access_tokens t
                             where t.app_id = a.app_id and t.kind = 'user' and t.status = 'active') as "tokens!: i64",
                            (select count(*) from access_tokens t
                             where t.app_id = a.app_id and t.kind = 'user' and t.status = 'suspended') as "suspended!: i64"
                     from applications a order by app_id"#
                )
                .fetch_all(db)
                .await
            })
            .await?;
        active_counts(rows.into_iter().map(|row| (row.app_id, row.sessions, row.tokens, row.suspended)))
    }
}

/// Reads one page of sessions. Each combination of filters has its own statement, which uses its own index. The state
/// is in no index and is filtered afterwards.
async fn list(
    db: &mut SqliteConnection,
    filter: &SessionFilter,
    after: Option<SessionCursor>,
    limit: u32,
) -> sqlx::Result<Vec<SessionRow>> {
    let state = filter.state.map(SessionState::as_str);
    // Without a cursor the page starts before every session.
    let created_at = after.map_or(i64::MAX, |cursor| micros(cursor.created_at));
    let id = after.map(|cursor| cursor.id.0.hyphenated().to_string()).unwrap_or_default();
    let app_ids = Json(&filter.app_ids);
    match (filter.app_id.as_ref().map(AppId::as_str), filter.open_id.as_ref().map(OpenId::as_str)) {
        (None, None) => {
            select_sessions!(
                "where (created_at, session_id) < (?1, ?2) and (?3 is null or state = ?3)
                   and (?5 = '[]' or app_id in (select value from json_each(?5)))
                 order by created_at desc, session_id desc limit ?4",
                created_at,
                id,
                state,
                limit,
                app_ids
            )
            .fetch_all(db)
            .await
        }
        (Some(app_id), None) => {
            select_sessions!(
                "where app_id = ?5 and (created_at, session_id) < (?1, ?2) and (?3 is null or state = ?3)
                   and (?6 = '[]' or app_id in (select value from json_each(?6)))
                 order by created_at desc, session_id desc limit ?4",
                created_at,
                id,
                state,
                limit,
                app_id,
                app_ids
            )
            .fetch_all(db)
            .await
        }
        (None, Some(open_id)) => {
            select_sessions!(
                "where open_id = ?5 and (created_at, session_id) < (?1, ?2) and (?3 is null or state = ?3)
                   and (?6 = '[]' or app_id in (select value from json_each(?6)))
                 order by created_at desc, session_id desc limit ?4",
                created_at,
                id,
                state,
                limit,
                open_id,
                app_ids
            )
            .fetch_all(db)
            .await
        }
        (Some(app_id), Some(open_id)) => {
            select_sessions!(
                "where app_id = ?5 and open_id = ?6 and (created_at, session_id) < (?1, ?2)
                   and (?3 is null or state = ?3)
                   and (?7 = '[]' or app_id in (select value from json_each(?7)))
                 order by created_at desc, session_id desc limit ?4",
                created_at,
                id,
                state,
                limit,
                app_id,
                open_id,
                app_ids
            )
            .fetch_all(db)
            .await
        }
    }
}
