//! From the authorization code to the stored token.

use larkauth_models::{SessionId, Timestamp, UnionId, UserId};
use sqlx::{Connection, SqliteConnection, query, query_as, query_scalar, types::Json};
use uuid::Uuid;

use super::{BEGIN_WRITING, SqliteStore, columns::time};
use crate::{
    CodeBinding, Completion, ExchangeClaim, Result,
    sealed::{Outcome, SealedCompletion},
};

impl SqliteStore {
    pub(super) async fn bind(&self, id: SessionId, code_sha256: &[u8; 32]) -> Result<CodeBinding> {
        self.write("binding a code", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let bound: Option<(Option<Vec<u8>>, bool)> = query_as(
                "select code_sha256, exchange_claim is not null from user_auth_sessions
                 where session_id = ?1 and state = 'pending'",
            )
            .bind(id.0.hyphenated())
            .fetch_optional(&mut *tx)
            .await?;
            let binding = match bound {
                None => CodeBinding::NotPending,
                Some((Some(code), _)) if code == code_sha256 => CodeBinding::SameCode,
                Some((_, true)) => CodeBinding::OtherCode,
                Some((_, false)) => {
                    query("update user_auth_sessions set code_sha256 = ?2 where session_id = ?1")
                        .bind(id.0.hyphenated())
                        .bind(&code_sha256[..])
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

    pub(super) async fn claim(
        &self,
        id: SessionId,
        code_sha256: Option<&[u8; 32]>,
        claim: Uuid,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<ExchangeClaim> {
        self.write("claiming an exchange", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let held: Option<(bool, Option<i64>)> = query_as(
                "select ?2 is null or code_sha256 is not distinct from ?2, exchange_claimed_until
                 from user_auth_sessions where session_id = ?1 and state = 'pending'",
            )
            .bind(id.0.hyphenated())
            .bind(code_sha256.map(|code| &code[..]))
            .fetch_optional(&mut *tx)
            .await?;
            let outcome = match held {
                None => ExchangeClaim::NotPending,
                Some((false, _)) => ExchangeClaim::Superseded,
                Some((true, Some(until))) => match time(until)? {
                    until if until <= now => ExchangeClaim::Abandoned,
                    until => ExchangeClaim::Held { until },
                },
                Some((true, None)) => {
                    query(
                        "update user_auth_sessions set exchange_claim = ?2, exchange_claimed_until = ?3
                         where session_id = ?1",
                    )
                    .bind(id.0.hyphenated())
                    .bind(claim.hyphenated())
                    .bind(until.timestamp_micros())
                    .execute(&mut *tx)
                    .await?;
                    ExchangeClaim::Claimed
                }
            };
            tx.commit().await?;
            Ok(outcome)
        })
        .await
    }

    pub(super) async fn release(&self, id: SessionId, claim: Uuid) -> Result<bool> {
        let done = self
            .write("releasing an exchange", async |db| {
                query(
                    "update user_auth_sessions set exchange_claim = null, exchange_claimed_until = null
                     where session_id = ?1 and state = 'pending' and exchange_claim = ?2",
                )
                .bind(id.0.hyphenated())
                .bind(claim.hyphenated())
                .execute(db)
                .await
            })
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn complete(&self, completion: &Completion) -> Result<bool> {
        const DURING: &str = "completing a session";
        // What the row is sealed for depends on the session's application, which never changes.
        let app_id: Option<String> = self
            .read(DURING, async |db| {
                query_scalar("select app_id from user_auth_sessions where session_id = ?1")
                    .bind(completion.session_id.0.hyphenated())
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
                    Outcome::Written => tx.commit().await?,
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
    let is_this_person: Option<bool> = query_scalar(
        "select coalesce(open_id = ?3, true) from user_auth_sessions
         where session_id = ?1 and state = 'pending' and exchange_claim = ?2",
    )
    .bind(completion.session_id.0.hyphenated())
    .bind(completion.claim.hyphenated())
    .bind(completion.profile.open_id.as_str())
    .fetch_optional(&mut *db)
    .await?;
    match is_this_person {
        None => return Ok(Outcome::NotClaimed),
        Some(false) => return Ok(Outcome::OtherPerson),
        Some(true) => {}
    }
    let token_id = write_token(db, app_id, completion, sealed).await?;
    write_profile(db, app_id, completion, sealed).await?;
    end_well(db, completion, sealed, token_id).await?;
    Ok(Outcome::Written)
}

async fn write_token(
    db: &mut SqliteConnection,
    app_id: &str,
    Completion { pair, profile, now, .. }: &Completion,
    sealed: &SealedCompletion,
) -> sqlx::Result<i64> {
    query_scalar(
        "insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                                    refresh_expires_at, scopes, issued_at, granted_at)
         values (?1, ?2, 'user', ?3, ?4, ?5, ?6, ?7, ?8, ?8)
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
             next_attempt_at = null
         returning token_id",
    )
    .bind(app_id)
    .bind(profile.open_id.as_str())
    .bind(&sealed.access_token)
    .bind(pair.access_expires_at.timestamp_micros())
    .bind(sealed.refresh_token.as_deref())
    .bind(pair.refresh_expires_at.map(|at| at.timestamp_micros()))
    .bind(Json(&pair.scopes))
    .bind(now.timestamp_micros())
    .fetch_one(db)
    .await
}

async fn write_profile(
    db: &mut SqliteConnection,
    app_id: &str,
    Completion { profile, now, .. }: &Completion,
    sealed: &SealedCompletion,
) -> sqlx::Result<()> {
    query(
        "insert into user_profiles (app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed,
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
             updated_at = excluded.updated_at",
    )
    .bind(app_id)
    .bind(profile.open_id.as_str())
    .bind(profile.union_id.as_ref().map(UnionId::as_str))
    .bind(profile.user_id.as_ref().map(UserId::as_str))
    .bind(profile.name.as_deref())
    .bind(profile.en_name.as_deref())
    .bind(profile.avatar_url.as_deref())
    .bind(sealed.profile_email.as_deref())
    .bind(sealed.profile_mobile.as_deref())
    .bind(profile.tenant_key.as_deref())
    .bind(now.timestamp_micros())
    .execute(db)
    .await?;
    Ok(())
}

async fn end_well(
    db: &mut SqliteConnection,
    Completion { session_id, profile, now, .. }: &Completion,
    sealed: &SealedCompletion,
    token_id: i64,
) -> sqlx::Result<()> {
    query(
        "update user_auth_sessions set
             state = 'completed', completed_at = ?2, ended_at = ?2, token_id = ?3,
             open_id = ?4, user_id = coalesce(user_id, ?5), union_id = ?6, user_name = ?7,
             email_sealed = ?8, mobile_sealed = ?9,
             oauth_state_sealed = null, pkce_verifier_sealed = null,
             exchange_claim = null, exchange_claimed_until = null
         where session_id = ?1",
    )
    .bind(session_id.0.hyphenated())
    .bind(now.timestamp_micros())
    .bind(token_id)
    .bind(profile.open_id.as_str())
    .bind(profile.user_id.as_ref().map(UserId::as_str))
    .bind(profile.union_id.as_ref().map(UnionId::as_str))
    .bind(profile.name.as_deref())
    .bind(sealed.session_email.as_deref())
    .bind(sealed.session_mobile.as_deref())
    .execute(db)
    .await?;
    Ok(())
}
