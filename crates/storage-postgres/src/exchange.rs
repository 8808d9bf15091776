//! Exchange of an authorization code for a stored token.

use std::time::Duration;

use larkauth_models::{SessionId, TokenPair, UnionId, UserId};
use sqlx::{Connection, PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use larkauth_storage::{
    CodeBinding, Completion, ExchangeClaim, Result, Sealed,
    backend::{
        claims::{ClaimRow, ClaimStep, micros},
        sealed::{Outcome, SealedCompletion, open_escrow},
    },
};

use crate::{audit::record, store::PgStore};

impl PgStore {
    pub(crate) async fn bind(&self, id: SessionId, code_sha256: &[u8; 32]) -> Result<CodeBinding> {
        self.call("binding a code", async |db| {
            let bound = query!(
                "update user_auth_sessions set code_sha256 = $2
                 where session_id = $1 and state = 'pending' and code_sha256 is distinct from $2
                   and (exchange_claim is null
                        or (exchange_sent_at is null and exchange_claimed_until <= clock_timestamp()))",
                id.0,
                &code_sha256[..]
            )
            .execute(&mut *db)
            .await?;
            if bound.rows_affected() == 1 {
                return Ok(CodeBinding::Bound);
            }
            let same = query_scalar!(
                r#"select code_sha256 is not distinct from $2 as "same!" from user_auth_sessions
                   where session_id = $1 and state = 'pending'"#,
                id.0,
                &code_sha256[..]
            )
            .fetch_optional(db)
            .await?;
            Ok(match same {
                Some(true) => CodeBinding::SameCode,
                Some(false) => CodeBinding::OtherCode,
                None => CodeBinding::NotPending,
            })
        })
        .await
    }

    pub(crate) async fn claim(
        &self,
        id: SessionId,
        code_sha256: Option<&[u8; 32]>,
        claim: Uuid,
        life: Duration,
    ) -> Result<ExchangeClaim> {
        let code = code_sha256.map(|code| &code[..]);
        self.call("claiming an exchange", async |db| {
            let mut tx = db.begin().await?;
            let row = query_as!(
                ClaimRow,
                r#"select $2::bytea is null or code_sha256 is not distinct from $2 as "is_current!",
                          exchange_claim is not distinct from $3 as "is_mine!",
                          (extract(epoch from exchange_claimed_until - clock_timestamp()) * 1000000)::bigint as "left?",
                          exchange_sent_at is not null as "is_sent!",
                          exchange_unanswered_at is not null as "is_unanswered!",
                          exchange_escrow_sealed is not null as "is_escrowed!",
                          device_poll_at is not null as "is_poll!"
                   from user_auth_sessions where session_id = $1 and state = 'pending' for update"#,
                id.0,
                code,
                claim
            )
            .fetch_optional(&mut *tx)
            .await?;
            let step = ClaimRow::decide(row.as_ref(), life);
            match step {
                ClaimStep::Report(_) => {}
                ClaimStep::Take(_) => {
                    query!(
                        "update user_auth_sessions set exchange_claim = $2,
                             exchange_claimed_until = clock_timestamp() + $3::bigint * interval '1 microsecond'
                         where session_id = $1",
                        id.0,
                        claim,
                        micros(life)
                    )
                    .execute(&mut *tx)
                    .await?;
                }
                ClaimStep::AwaitEscrow(_) => {
                    query!(
                        "update user_auth_sessions set exchange_unanswered_at = clock_timestamp(),
                             exchange_claimed_until = clock_timestamp() + $2::bigint * interval '1 microsecond'
                         where session_id = $1",
                        id.0,
                        micros(life)
                    )
                    .execute(&mut *tx)
                    .await?;
                }
            }
            tx.commit().await?;
            let (ClaimStep::Report(outcome) | ClaimStep::Take(outcome) | ClaimStep::AwaitEscrow(outcome)) = step;
            Ok(outcome)
        })
        .await
    }

    pub(crate) async fn mark_sent(&self, id: SessionId, claim: Uuid) -> Result<bool> {
        self.change("marking a code as sent", async |db| {
                query!(
                    "update user_auth_sessions set exchange_sent_at = coalesce(exchange_sent_at, clock_timestamp())
                     where session_id = $1 and state = 'pending' and exchange_claim = $2
                       and exists (select from applications where app_id = user_auth_sessions.app_id and enabled)",
                    id.0,
                    claim
                )
                .execute(db)
                .await
        })
        .await
    }

    pub(crate) async fn escrow(&self, id: SessionId, claim: Uuid, pair: &Sealed) -> Result<bool> {
        self.change("putting a token pair in escrow", async |db| {
                query!(
                    "update user_auth_sessions set
                         exchange_escrow_sealed = coalesce(exchange_escrow_sealed, $3), exchange_unanswered_at = null
                     where session_id = $1 and state = 'pending' and exchange_claim = $2
                       and exchange_sent_at is not null",
                    id.0,
                    claim,
                    &pair.0[..]
                )
                .execute(db)
                .await
        })
        .await
    }

    pub(crate) async fn put_escrow_again(&self, id: SessionId, claim: Uuid, pair: &Sealed) -> Result<bool> {
        self.change("replacing a token pair in escrow", async |db| {
            query!(
                "update user_auth_sessions set exchange_escrow_sealed = $3, exchange_unanswered_at = null
                     where session_id = $1 and state = 'pending' and exchange_claim = $2
                       and exchange_sent_at is not null",
                id.0,
                claim,
                &pair.0[..]
            )
            .execute(db)
            .await
        })
        .await
    }

    pub(crate) async fn escrowed(&self, id: SessionId, claim: Uuid) -> Result<Option<TokenPair>> {
        let sealed = self
            .call("reading a token pair in escrow", async |db| {
                query_scalar!(
                    r#"select exchange_escrow_sealed as "sealed!" from user_auth_sessions
                       where session_id = $1 and exchange_claim = $2 and exchange_escrow_sealed is not null"#,
                    id.0,
                    claim
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        sealed.map(|sealed| open_escrow(&self.cipher, id, &sealed)).transpose()
    }

    pub(crate) async fn unfinished(&self, limit: u32) -> Result<Vec<SessionId>> {
        let ids = self
            .call("looking for unfinished exchanges", async |db| {
                query_scalar!(
                    "select session_id from user_auth_sessions
                     where exchange_sent_at is not null and exchange_claimed_until <= clock_timestamp()
                       and (device_poll_at is null or exchange_unanswered_at is null or exchange_escrow_sealed is not null)
                     order by exchange_claimed_until limit $1",
                    i64::from(limit)
                )
                .fetch_all(db)
                .await
            })
            .await?;
        Ok(ids.into_iter().map(SessionId).collect())
    }

    pub(crate) async fn release(&self, id: SessionId, claim: Uuid) -> Result<bool> {
        self.change("releasing an exchange", async |db| {
            query!(
                "update user_auth_sessions set
                         exchange_claim = null, exchange_claimed_until = null, exchange_sent_at = null,
                         exchange_unanswered_at = null
                     where session_id = $1 and state = 'pending' and exchange_claim = $2
                       and exchange_escrow_sealed is null",
                id.0,
                claim
            )
            .execute(db)
            .await
        })
        .await
    }

    pub(crate) async fn complete(&self, completion: &Completion) -> Result<bool> {
        const DURING: &str = "completing a session";
        // The values are sealed for the session's application, which never changes.
        let app_id = self
            .call(DURING, async |db| {
                query_scalar!(
                    "select app_id from user_auth_sessions where session_id = $1",
                    completion.session_id.0
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        let Some(app_id) = app_id else { return Ok(false) };
        let sealed = SealedCompletion::new(&self.cipher, &app_id, completion)?;
        let outcome = self
            .call(DURING, async |db| {
                let mut tx = db.begin().await?;
                let outcome = write(&mut tx, &app_id, completion, &sealed).await?;
                match outcome {
                    Outcome::Written => {
                        record(&mut tx, &completion.audit).await?;
                        tx.commit().await?;
                    }
                    Outcome::NotClaimed | Outcome::OtherPerson => tx.rollback().await?,
                }
                Ok(outcome)
            })
            .await?;
        outcome.into_result(DURING, completion)
    }
}

async fn write(
    db: &mut PgConnection,
    app_id: &str,
    completion: &Completion,
    sealed: &SealedCompletion,
) -> sqlx::Result<Outcome> {
    let Completion { session_id, claim, pair, profile, next_attempt_at, now, .. } = completion;
    let open_id = profile.open_id.as_str();
    // Locks the row, so that no other transaction ends the session before this one ends.
    let is_this_person = query_scalar!(
        r#"select coalesce(asked_open_id = $3 and asked_user_id = $4, asked_open_id = $3, asked_user_id = $4, false)
                  as "same!"
           from user_auth_sessions
           where session_id = $1 and state = 'pending' and exchange_claim = $2 for update"#,
        session_id.0,
        claim,
        open_id,
        profile.user_id.as_ref().map(UserId::as_str)
    )
    .fetch_optional(&mut *db)
    .await?;
    match is_this_person {
        None => return Ok(Outcome::NotClaimed),
        Some(false) => return Ok(Outcome::OtherPerson),
        Some(true) => {}
    }
    let token_id = query_scalar!(
        "insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                                    refresh_expires_at, scopes, issued_at, granted_at, next_attempt_at)
         values ($1, $2, 'user', $3, $4, $5, $6, $7, $8, $8, $9)
         on conflict (app_id, open_id, kind) do update set
             access_token_sealed = excluded.access_token_sealed,
             access_expires_at = excluded.access_expires_at,
             refresh_token_sealed = excluded.refresh_token_sealed,
             refresh_expires_at = excluded.refresh_expires_at,
             scopes = excluded.scopes,
             issued_at = excluded.issued_at,
             granted_at = excluded.granted_at,
             generation = access_tokens.generation + 1,
             status = 'active',
             revoked_at = null,
             lease_owner = null,
             lease_until = null,
             failures = 0,
             next_attempt_at = excluded.next_attempt_at,
             ask_at = excluded.ask_at,
             suspended_for = null
         returning token_id",
        app_id,
        open_id,
        sealed.access_token,
        pair.access_expires_at,
        sealed.refresh_token.as_deref(),
        pair.refresh_expires_at,
        &pair.scopes,
        now,
        *next_attempt_at
    )
    .fetch_one(&mut *db)
    .await?;
    query!(
        "insert into user_profiles (app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed,
                                    mobile_sealed, tenant_key, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict (app_id, open_id) do update set
             union_id = excluded.union_id,
             user_id = excluded.user_id,
             name = excluded.name,
             en_name = excluded.en_name,
             avatar_url = excluded.avatar_url,
             email_sealed = excluded.email_sealed,
             mobile_sealed = excluded.mobile_sealed,
             tenant_key = excluded.tenant_key,
             updated_at = excluded.updated_at",
        app_id,
        open_id,
        profile.union_id.as_ref().map(UnionId::as_str),
        profile.user_id.as_ref().map(UserId::as_str),
        profile.name.as_deref(),
        profile.en_name.as_deref(),
        profile.avatar_url.as_deref(),
        sealed.profile_email.as_deref(),
        sealed.profile_mobile.as_deref(),
        profile.tenant_key.as_deref(),
        now
    )
    .execute(&mut *db)
    .await?;
    query!(
        "update user_auth_sessions set
             state = 'completed', completed_at = $2, ended_at = $2, announced_at = null, token_id = $3,
             open_id = $4, user_id = coalesce(user_id, $5), union_id = $6, user_name = $7,
             email_sealed = $8, mobile_sealed = $9, granted_scopes = $10,
             oauth_state_sealed = null, pkce_verifier_sealed = null,
             exchange_claim = null, exchange_claimed_until = null, exchange_sent_at = null,
             exchange_unanswered_at = null, exchange_escrow_sealed = null,
             device_grant_sealed = null, device_expires_at = null, device_interval_seconds = null,
             device_poll_at = null, device_opened_at = null
         where session_id = $1",
        session_id.0,
        now,
        token_id,
        open_id,
        profile.user_id.as_ref().map(UserId::as_str),
        profile.union_id.as_ref().map(UnionId::as_str),
        profile.name.as_deref(),
        sealed.session_email.as_deref(),
        sealed.session_mobile.as_deref(),
        &pair.scopes
    )
    .execute(db)
    .await?;
    Ok(Outcome::Written)
}
