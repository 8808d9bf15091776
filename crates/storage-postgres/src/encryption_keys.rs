use std::time::Duration;

use async_trait::async_trait;
use larkauth_storage::{
    AuditEntry, EncryptionKeys, KeyUse, Resealed, Result,
    transfer::{ApplicationRecord, ProfileRecord, Record, SessionRecord, TokenRecord, key_ids},
};
use sqlx::{Connection, PgConnection, query};

use crate::{audit::recorded, store::PgStore};

#[async_trait]
impl EncryptionKeys for PgStore {
    async fn reseal(&self, rows: &[Resealed]) -> Result<Vec<bool>> {
        self.call("sealing rows again", async |db| {
            let mut tx = db.begin().await?;
            let mut done = Vec::with_capacity(rows.len());
            for row in rows {
                done.push(replace(&mut tx, row).await?);
            }
            tx.commit().await?;
            Ok(done)
        })
        .await
    }

    async fn note_key_use(&self, key_id: &str) -> Result<()> {
        self.call("noting an encryption key", async |db| {
            query!(
                "insert into encryption_key_uses (key_id, sealed_at) values ($1, clock_timestamp())
                 on conflict (key_id) do update set sealed_at = excluded.sealed_at
                 where encryption_key_uses.sealed_at is null
                    or encryption_key_uses.sealed_at < excluded.sealed_at - interval '30 seconds'",
                key_id
            )
            .execute(db)
            .await
        })
        .await
        .map(drop)
    }

    async fn key_uses(&self) -> Result<Vec<KeyUse>> {
        let rows = self
            .call("reading the encryption keys in use", async |db| {
                query!(
                    r#"select key_id, sealed_at,
                              (extract(epoch from clock_timestamp() - sealed_at) * 1000000)::bigint as "ago?"
                       from encryption_key_uses order by key_id"#
                )
                .fetch_all(db)
                .await
            })
            .await?;
        let uses = rows.into_iter().map(|row| KeyUse {
            key_id: row.key_id,
            sealed_at: row.sealed_at,
            sealed_ago: row.ago.map(|ago| Duration::from_micros(ago.try_into().unwrap_or(0))),
        });
        Ok(uses.collect())
    }

    async fn forget_key_use(&self, known: &KeyUse, audit: &AuditEntry) -> Result<bool> {
        self.call("forgetting an encryption key", async |db| {
            let mut tx = db.begin().await?;
            let done = query!(
                "delete from encryption_key_uses where key_id = $1 and sealed_at is not distinct from $2",
                known.key_id,
                known.sealed_at
            )
            .execute(&mut *tx)
            .await?;
            recorded(tx, done, audit).await
        })
        .await
    }
}

/// Notes the keys of imported rows, within their transaction.
pub(crate) async fn note_imported(db: &mut PgConnection, rows: &[Record]) -> sqlx::Result<()> {
    let ids: Vec<String> = key_ids(rows).into_iter().map(str::to_owned).collect();
    query!(
        "insert into encryption_key_uses (key_id) select unnest($1::text[]) on conflict (key_id) do nothing",
        &ids
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Replaces the sealed values of one row. A row that is locked is skipped: a statement that waits for no
/// lock is in no deadlock.
async fn replace(db: &mut PgConnection, row: &Resealed) -> sqlx::Result<bool> {
    match (&row.old, &row.new) {
        (Record::Applications(old), Record::Applications(new)) => application(db, old, new).await,
        (Record::Tokens(old), Record::Tokens(new)) => token(db, old, new).await,
        (Record::Profiles(old), Record::Profiles(new)) => profile(db, old, new).await,
        (Record::Sessions(old), Record::Sessions(new)) => session(db, old, new).await,
        // Other tables have no sealed column.
        _ => Ok(false),
    }
}

async fn application(
    db: &mut PgConnection,
    old: &ApplicationRecord,
    new: &ApplicationRecord,
) -> sqlx::Result<bool> {
    let done = query!(
        "update applications set app_secret_sealed = $2, verification_token_sealed = $3, encrypt_key_sealed = $4
         where app_id = (
             select app_id from applications
             where app_id = $1 and app_secret_sealed = $5 and verification_token_sealed is not distinct from $6
               and encrypt_key_sealed is not distinct from $7
             for update skip locked)",
        old.app_id,
        new.app_secret_sealed,
        new.verification_token_sealed.as_deref(),
        new.encrypt_key_sealed.as_deref(),
        old.app_secret_sealed,
        old.verification_token_sealed.as_deref(),
        old.encrypt_key_sealed.as_deref()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn token(db: &mut PgConnection, old: &TokenRecord, new: &TokenRecord) -> sqlx::Result<bool> {
    let done = query!(
        "update access_tokens set access_token_sealed = $4, refresh_token_sealed = $5
         where token_id = (
             select token_id from access_tokens
             where app_id = $1 and open_id = $2 and kind = $3 and access_token_sealed is not distinct from $6
               and refresh_token_sealed is not distinct from $7
             for update skip locked)",
        old.app_id,
        old.open_id,
        old.kind,
        new.access_token_sealed.as_deref(),
        new.refresh_token_sealed.as_deref(),
        old.access_token_sealed.as_deref(),
        old.refresh_token_sealed.as_deref()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn profile(db: &mut PgConnection, old: &ProfileRecord, new: &ProfileRecord) -> sqlx::Result<bool> {
    let done = query!(
        "update user_profiles set email_sealed = $3, mobile_sealed = $4
         where (app_id, open_id) = (
             select app_id, open_id from user_profiles
             where app_id = $1 and open_id = $2 and email_sealed is not distinct from $5
               and mobile_sealed is not distinct from $6
             for update skip locked)",
        old.app_id,
        old.open_id,
        new.email_sealed.as_deref(),
        new.mobile_sealed.as_deref(),
        old.email_sealed.as_deref(),
        old.mobile_sealed.as_deref()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn session(db: &mut PgConnection, old: &SessionRecord, new: &SessionRecord) -> sqlx::Result<bool> {
    let done = query!(
        "update user_auth_sessions set email_sealed = $2, mobile_sealed = $3, oauth_state_sealed = $4,
             pkce_verifier_sealed = $5, exchange_escrow_sealed = $6, device_grant_sealed = $12
         where session_id = (
             select session_id from user_auth_sessions
             where session_id = $1 and email_sealed is not distinct from $7 and mobile_sealed is not distinct from $8
               and oauth_state_sealed is not distinct from $9 and pkce_verifier_sealed is not distinct from $10
               and exchange_escrow_sealed is not distinct from $11
               and device_grant_sealed is not distinct from $13
             for update skip locked)",
        old.session_id,
        new.email_sealed.as_deref(),
        new.mobile_sealed.as_deref(),
        new.oauth_state_sealed.as_deref(),
        new.pkce_verifier_sealed.as_deref(),
        new.exchange_escrow_sealed.as_deref(),
        old.email_sealed.as_deref(),
        old.mobile_sealed.as_deref(),
        old.oauth_state_sealed.as_deref(),
        old.pkce_verifier_sealed.as_deref(),
        old.exchange_escrow_sealed.as_deref(),
        new.device_grant_sealed.as_deref(),
        old.device_grant_sealed.as_deref()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}
