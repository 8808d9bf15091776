use std::time::Duration;

use async_trait::async_trait;
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    AuditEntry, EncryptionKeys, KeyUse, Resealed, Result,
    transfer::{ApplicationRecord, ProfileRecord, Record, SessionRecord, TokenRecord, key_ids},
};
use sqlx::{Connection, SqliteConnection, query};

use crate::{
    audit::recorded,
    columns::{OptionalMicros, micros},
    store::SqliteStore,
};

#[async_trait]
impl EncryptionKeys for SqliteStore {
    async fn reseal(&self, rows: &[Resealed]) -> Result<Vec<bool>> {
        self.write("sealing rows again", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
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
        self.write("noting an encryption key", async |db| {
            query!(
                "insert into encryption_key_uses (key_id, sealed_at)
                 values (?1, cast(unixepoch('subsec') * 1000000 as integer))
                 on conflict (key_id) do update set sealed_at = excluded.sealed_at
                 where encryption_key_uses.sealed_at is null
                    or encryption_key_uses.sealed_at < excluded.sealed_at - 30000000",
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
            .read("reading the encryption keys in use", async |db| {
                query!(
                    r#"select key_id, sealed_at as "sealed_at!: OptionalMicros",
                          cast(unixepoch('subsec') * 1000000 as integer) - sealed_at as "ago?: i64"
                       from encryption_key_uses order by key_id"#
                )
                .fetch_all(db)
                .await
            })
            .await?;
        let uses = rows.into_iter().map(|row| KeyUse {
            key_id: row.key_id,
            sealed_at: row.sealed_at.into(),
            sealed_ago: row.ago.map(|ago| Duration::from_micros(ago.try_into().unwrap_or(0))),
        });
        Ok(uses.collect())
    }

    async fn forget_key_use(&self, known: &KeyUse, audit: &AuditEntry) -> Result<bool> {
        self.write("forgetting an encryption key", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
            let done = query!(
                "delete from encryption_key_uses where key_id = ?1 and sealed_at is ?2",
                &known.key_id,
                known.sealed_at.map(micros)
            )
            .execute(&mut *tx)
            .await?;
            recorded(tx, done, audit).await
        })
        .await
    }
}

/// Notes the keys of imported rows, within their transaction.
pub(crate) async fn note_imported(db: &mut SqliteConnection, rows: &[Record]) -> sqlx::Result<()> {
    for id in key_ids(rows) {
        query!("insert into encryption_key_uses (key_id) values (?1) on conflict (key_id) do nothing", id)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Replaces the sealed values of one row.
async fn replace(db: &mut SqliteConnection, row: &Resealed) -> sqlx::Result<bool> {
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
    db: &mut SqliteConnection,
    old: &ApplicationRecord,
    new: &ApplicationRecord,
) -> sqlx::Result<bool> {
    let done = query!(
        "update applications set app_secret_sealed = ?2, verification_token_sealed = ?3, encrypt_key_sealed = ?4
         where app_id = ?1 and app_secret_sealed = ?5 and verification_token_sealed is ?6 and encrypt_key_sealed is ?7",
        &old.app_id,
        &new.app_secret_sealed,
        new.verification_token_sealed.as_deref(),
        new.encrypt_key_sealed.as_deref(),
        &old.app_secret_sealed,
        old.verification_token_sealed.as_deref(),
        old.encrypt_key_sealed.as_deref()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn token(db: &mut SqliteConnection, old: &TokenRecord, new: &TokenRecord) -> sqlx::Result<bool> {
    let done = query!(
        "update access_tokens set access_token_sealed = ?4, refresh_token_sealed = ?5
         where app_id = ?1 and open_id = ?2 and kind = ?3 and access_token_sealed is ?6 and refresh_token_sealed is ?7",
        &old.app_id,
        &old.open_id,
        &old.kind,
        new.access_token_sealed.as_deref(),
        new.refresh_token_sealed.as_deref(),
        old.access_token_sealed.as_deref(),
        old.refresh_token_sealed.as_deref()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn profile(db: &mut SqliteConnection, old: &ProfileRecord, new: &ProfileRecord) -> sqlx::Result<bool> {
    let done = query!(
        "update user_profiles set email_sealed = ?3, mobile_sealed = ?4
         where app_id = ?1 and open_id = ?2 and email_sealed is ?5 and mobile_sealed is ?6",
        &old.app_id,
        &old.open_id,
        new.email_sealed.as_deref(),
        new.mobile_sealed.as_deref(),
        old.email_sealed.as_deref(),
        old.mobile_sealed.as_deref()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

async fn session(db: &mut SqliteConnection, old: &SessionRecord, new: &SessionRecord) -> sqlx::Result<bool> {
    let done = query!(
        "update user_auth_sessions set email_sealed = ?2, mobile_sealed = ?3, oauth_state_sealed = ?4,
             pkce_verifier_sealed = ?5, exchange_escrow_sealed = ?6, device_grant_sealed = ?12
         where session_id = ?1 and email_sealed is ?7 and mobile_sealed is ?8 and oauth_state_sealed is ?9
           and pkce_verifier_sealed is ?10 and exchange_escrow_sealed is ?11
           and device_grant_sealed is ?13",
        old.session_id.hyphenated(),
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
