//! Exchange of an authorization code for a stored token.

use std::time::Duration;

use larkauth_models::{SessionId, TokenPair, UnionId, UserId};
use larkauth_sqlite::BEGIN_WRITING;
use sqlx::{Connection, SqliteConnection, query, query_as, query_scalar, types::Json};
use uuid::Uuid;

use larkauth_storage::{
    CodeBinding, Completion, ExchangeClaim, Result, Sealed,
    backend::{
        claims::{self, ClaimRow, ClaimStep},
        sealed::{Outcome, SealedCompletion, open_escrow},
    },
};

use crate::{audit::record, columns::Id, store::SqliteStore};

impl SqliteStore {
    pub(crate) async fn bind(&self, id: SessionId, code_sha256: &[u8; 32]) -> Result<CodeBinding> {
        self.write("binding a code", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let bound = query!(
                r#"select code_sha256, exchange_claim is not null and (exchange_sent_at is not null
                        or exchange_claimed_until > cast(unixepoch('subsec') * 1000000 as integer)) as "claimed!: bool"
                 from user_auth_sessions
                 where session_id = ?1 and state = 'pending'"#,
                id.0.hyphenated()
            )
            .fetch_optional(&mut *tx)
            .await?;
            let binding = match bound.map(|bound| (bound.code_sha256, bound.claimed)) {
                None => CodeBinding::NotPending,
                Some((Some(code), _)) if code == code_sha256 => CodeBinding::SameCode,
                Some((_, true)) => CodeBinding::OtherCode,
                Some((_, false)) => {
                    query!(
                        "update user_auth_sessions set code_sha256 = ?2 where session_id = ?1",
                        id.0.hyphenated(),
                        &code_sha256[..]
                    )
                    .execute(&mut *tx)
                    .await?;
                    CodeBinding::Bound
                }
            };
            tx.commit().await?;
            Ok(binding)
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
        self.write("claiming an exchange", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let row = query_as!(
                ClaimRow,
                r#"select ?2 is null or code_sha256 is not distinct from ?2 as "is_current!: bool",
                        exchange_claim is not distinct from ?3 as "is_mine!: bool",
                        exchange_claimed_until - cast(unixepoch('subsec') * 1000000 as integer) as "left?: i64",
                        exchange_sent_at is not null as "is_sent!: bool",
                        exchange_unanswered_at is not null as "is_unanswered!: bool",
                        exchange_escrow_sealed is not null as "is_escrowed!: bool",
                        device_poll_at is not null as "is_poll!: bool"
                 from user_auth_sessions where session_id = ?1 and state = 'pending'"#,
                id.0.hyphenated(),
                code_sha256.map(|code| &code[..]),
                claim.hyphenated()
            )
            .fetch_optional(&mut *tx)
            .await?;
            let step = ClaimRow::decide(row.as_ref(), life);
            match step {
                ClaimStep::Report(_) => {}
                ClaimStep::Take(_) => {
                    query!(
                        "update user_auth_sessions set exchange_claim = ?2,
                             exchange_claimed_until = cast(unixepoch('subsec') * 1000000 as integer) + ?3
                         where session_id = ?1",
                        id.0.hyphenated(),
                        claim.hyphenated(),
                        claims::micros(life)
                    )
                    .execute(&mut *tx)
                    .await?;
                }
                ClaimStep::AwaitEscrow(_) => {
                    query!(
                        "update user_auth_sessions set
                             exchange_unanswered_at = cast(unixepoch('subsec') * 1000000 as integer),
                             exchange_claimed_until = cast(unixepoch('subsec') * 1000000 as integer) + ?2
                         where session_id = ?1",
                        id.0.hyphenated(),
                        claims::micros(life)
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
                    "update user_auth_sessions set
                         exchange_sent_at = coalesce(exchange_sent_at, cast(unixepoch('subsec') * 1000000 as integer))
                     where session_id = ?1 and state = 'pending' and exchange_claim = ?2
                       and exists (select 1 from applications where app_id = user_auth_sessions.app_id and enabled)",
                    id.0.hyphenated(),
                    claim.hyphenated()
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
                         exchange_escrow_sealed = coalesce(exchange_escrow_sealed, ?3), exchange_unanswered_at = null
                     where session_id = ?1 and state = 'pending' and exchange_claim = ?2
                       and exchange_sent_at is not null",
                    id.0.hyphenated(),
                    claim.hyphenated(),
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
                "update user_auth_sessions set exchange_escrow_sealed = ?3, exchange_unanswered_at = null
                     where session_id = ?1 and state = 'pending' and exchange_claim = ?2
                       and exchange_sent_at is not null",
                id.0.hyphenated(),
                claim.hyphenated(),
                &pair.0[..]
            )
            .execute(db)
            .await
        })
        .await
    }

    pub(crate) async fn escrowed(&self, id: SessionId, claim: Uuid) -> Result<Option<TokenPair>> {
        let sealed = self
            .read("reading a token pair in escrow", async |db| {
                query_scalar!(
                    r#"select exchange_escrow_sealed as "sealed!" from user_auth_sessions
                     where session_id = ?1 and exchange_claim = ?2 and exchange_escrow_sealed is not null"#,
                    id.0.hyphenated(),
                    claim.hyphenated()
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        sealed.map(|sealed| open_escrow(&self.cipher, id, &sealed)).transpose()
    }

    pub(crate) async fn unfinished(&self, limit: u32) -> Result<Vec<SessionId>> {
        let ids = self
            .read("looking for unfinished exchanges", async |db| {
                query_scalar!(
                    r#"select session_id as "id!: Id" from user_auth_sessions
                     where exchange_sent_at is not null
                       and exchange_claimed_until <= cast(unixepoch('subsec') * 1000000 as integer)
                       and (device_poll_at is null or exchange_unanswered_at is null or exchange_escrow_sealed is not null)
                     order by exchange_claimed_until limit ?1"#,
                    limit
                )
                .fetch_all(db)
                .await
            })
            .await?;
        Ok(ids.into_iter().map(|id| SessionId(id.into())).collect())
    }

    pub(crate) async fn release(&self, id: SessionId, claim: Uuid) -> Result<bool> {
        self.change("releasing an exchange", async |db| {
            query!(
                "update user_auth_sessions set
                         exchange_claim = null, exchange_claimed_until = null, exchange_sent_at = null,
                         exchange_unanswered_at = null
                     where session_id = ?1 and state = 'pending' and exchange_claim = ?2
                       and exchange_escrow_sealed is null",
                id.0.hyphenated(),
                claim.hyphenated()
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
            .read(DURING, async |db| {
                query_scalar!(
                    "select app_id from user_auth_sessions where session_id = ?1",
                    completion.session_id.0.hyphenated()
                )
                .fetch_optional(db)
                .await
            })
            .await?;
        let Some(app_id) = app_id else { return Ok(false) };
        let sealed = SealedCompletion::new(&self.cipher, &app_id, completion)?;
        let outcome = self
            .write(DURING, async |db| {
                let mut tx = db.begin_with(BEGIN_WRITING).await?;
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
    db: &mut SqliteConnection,
    app_id: &str,
    completion: &Completion,
    sealed: &SealedCompletion,
) -> sqlx::Result<Outcome> {
    let is_this_person = query_scalar!(
        r#"select coalesce(asked_open_id = ?3 and asked_user_id = ?4, asked_open_id = ?3, asked_user_id = ?4, false)
                as "same!: bool"
         from user_auth_sessions
         where session_id = ?1 and state = 'pending' and exchange_claim = ?2"#,
        completion.session_id.0.hyphenated(),
        completion.claim.hyphenated(),
        completion.profile.open_id.as_str(),
        completion.profile.user_id.as_ref().map(UserId::as_str)
    )
    .fetch_optional(&mut *db)
    .await?;
    match is_this_person {
        None => return Ok(Outcome::NotClaimed),
        Some(false) => return Ok(Outcome::OtherPerson),
        Some(true) => {}
    }
    let token_id = write_token(db, app_id, completion, sealed).await?;
    write_profile(db, app_id, completion, sealed).await?;
    complete_row(db, completion, sealed, token_id).await?;
    Ok(Outcome::Written)
}

async fn write_token(
    db: &mut SqliteConnection,
    app_id: &str,
    Completion { pair, profile, next_attempt_at, now, .. }: &Completion,
    sealed: &SealedCompletion,
) -> sqlx::Result<i64> {
    query_scalar!("insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                                    refresh_expires_at, scopes, issued_at, granted_at, next_attempt_at)
         values (?1, ?2, 'user', ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9)
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
         returning token_id", app_id, profile.open_id.as_str(), &sealed.access_token, pair.access_expires_at.timestamp_micros(), sealed.refresh_token.as_deref(), pair.refresh_expires_at.map(|at| at.timestamp_micros()), Json(&pair.scopes), now.timestamp_micros(), next_attempt_at.map(|at| at.timestamp_micros()))
    .fetch_one(db)
    .await
}

async fn write_profile(
    db: &mut SqliteConnection,
    app_id: &str,
    Completion { profile, now, .. }: &Completion,
    sealed: &SealedCompletion,
) -> sqlx::Result<()> {
    query!("insert into user_profiles (app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed,
                                    mobile_sealed, tenant_key, updated_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         on conflict (app_id, open_id) do update set
             union_id = excluded.union_id,
             user_id = excluded.user_id,
             name = excluded.name,
             en_name = excluded.en_name,
             avatar_url = excluded.avatar_url,
             email_sealed = excluded.email_sealed,
             mobile_sealed = excluded.mobile_sealed,
             tenant_key = excluded.tenant_key,
             updated_at = excluded.updated_at", app_id, profile.open_id.as_str(), profile.union_id.as_ref().map(UnionId::as_str), profile.user_id.as_ref().map(UserId::as_str), profile.name.as_deref(), profile.en_name.as_deref(), profile.avatar_url.as_deref(), sealed.profile_email.as_deref(), sealed.profile_mobile.as_deref(), profile.tenant_key.as_deref(), now.timestamp_micros())
    .execute(db)
    .await?;
    Ok(())
}

async fn complete_row(
    db: &mut SqliteConnection,
    Completion { session_id, pair, profile, now, .. }: &Completion,
    sealed: &SealedCompletion,
    token_id: i64,
) -> sqlx::Result<()> {
    query!(
        "update user_auth_sessions set
             state = 'completed', completed_at = ?2, ended_at = ?2, announced_at = null, token_id = ?3,
             open_id = ?4, user_id = coalesce(user_id, ?5), union_id = ?6, user_name = ?7,
             email_sealed = ?8, mobile_sealed = ?9, granted_scopes = ?10,
             oauth_state_sealed = null, pkce_verifier_sealed = null,
             exchange_claim = null, exchange_claimed_until = null, exchange_sent_at = null,
             exchange_unanswered_at = null, exchange_escrow_sealed = null,
             device_grant_sealed = null, device_expires_at = null, device_interval_seconds = null,
             device_poll_at = null, device_opened_at = null
         where session_id = ?1",
        session_id.0.hyphenated(),
        now.timestamp_micros(),
        token_id,
        profile.open_id.as_str(),
        profile.user_id.as_ref().map(UserId::as_str),
        profile.union_id.as_ref().map(UnionId::as_str),
        profile.name.as_deref(),
        sealed.session_email.as_deref(),
        sealed.session_mobile.as_deref(),
        Json(&pair.scopes)
    )
    .execute(db)
    .await?;
    Ok(())
}
