//! Export and import of whole rows.

use async_trait::async_trait;
use larkauth_storage::{
    Result,
    transfer::{
        ApiKeyRecord, ApplicationRecord, AuditRecord, ProcessedEventRecord, ProfileRecord, Record, RowKey,
        SessionRecord, Table, TokenRecord, Transfer,
    },
};
use sqlx::{Connection, PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use crate::{encryption_keys::note_imported, store::PgStore};

#[async_trait]
impl Transfer for PgStore {
    async fn export(&self, table: Table, after: Option<&RowKey>, limit: u32) -> Result<Vec<Record>> {
        self.call("exporting rows", async |db| export(db, table, after, i64::from(limit)).await).await
    }

    async fn find(&self, table: Table, keys: &[RowKey]) -> Result<Vec<Record>> {
        self.call("finding rows", async |db| find(db, table, keys).await).await
    }

    async fn import(&self, rows: &[Record]) -> Result<u64> {
        self.call("importing rows", async |db| {
            let mut tx = db.begin().await?;
            let mut written = 0;
            for row in rows {
                written += insert(&mut tx, row).await?;
            }
            note_imported(&mut tx, rows).await?;
            tx.commit().await?;
            Ok(written)
        })
        .await
    }

    async fn count(&self, table: Table) -> Result<u64> {
        let count = self
            .call("counting rows", async |db| match table {
                Table::Applications => {
                    query_scalar!(r#"select count(*) as "n!" from applications"#).fetch_one(db).await
                }
                Table::Tokens => {
                    query_scalar!(r#"select count(*) as "n!" from access_tokens"#).fetch_one(db).await
                }
                Table::Profiles => {
                    query_scalar!(r#"select count(*) as "n!" from user_profiles"#).fetch_one(db).await
                }
                Table::Sessions => {
                    query_scalar!(r#"select count(*) as "n!" from user_auth_sessions"#).fetch_one(db).await
                }
                Table::ApiKeys => {
                    query_scalar!(r#"select count(*) as "n!" from api_keys"#).fetch_one(db).await
                }
                Table::ProcessedEvents => {
                    query_scalar!(r#"select count(*) as "n!" from processed_events"#).fetch_one(db).await
                }
                Table::Audit => {
                    query_scalar!(r#"select count(*) as "n!" from audit_log"#).fetch_one(db).await
                }
            })
            .await?;
        Ok(count.unsigned_abs())
    }
}

/// Returns the rows as records of any table.
fn records<R: Into<Record>>(rows: Vec<R>) -> Vec<Record> {
    rows.into_iter().map(Into::into).collect()
}

/// Parses a key that is a UUID; the nil UUID, which no row has, sorts before every other.
fn uuid(key: Option<&RowKey>) -> Uuid {
    RowKey::part(key, 0).parse().unwrap_or_default()
}

/// Returns the n-th values of all keys.
fn column(keys: &[RowKey], n: usize) -> Vec<String> {
    keys.iter().map(|key| RowKey::part(Some(key), n).to_owned()).collect()
}

async fn export(
    db: &mut PgConnection,
    table: Table,
    after: Option<&RowKey>,
    limit: i64,
) -> sqlx::Result<Vec<Record>> {
    Ok(match table {
        Table::Applications => records(
            query_as!(
                ApplicationRecord,
                "select app_id, app_secret_sealed, verification_token_sealed, encrypt_key_sealed, brand, token_api,
                    redirect_uri, default_scopes, enabled, frozen_since, frozen_reason, created_at, updated_at
                 from applications where app_id > $1 order by app_id limit $2",
                RowKey::part(after, 0),
                limit
            )
            .fetch_all(db)
            .await?,
        ),
        Table::Tokens => records(
            query_as!(
                TokenRecord,
                "select app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                    refresh_expires_at, scopes, issued_at, granted_at, generation, status, revoked_at, lease_owner,
                    lease_until, failures, next_attempt_at, last_used_at, ask_at, suspended_for, status_announcements
                 from access_tokens where (app_id, open_id, kind) > ($1, $2, $3) order by app_id, open_id, kind limit $4",
                RowKey::part(after, 0), RowKey::part(after, 1), RowKey::part(after, 2),
                limit
            )
            .fetch_all(db)
            .await?,
        ),
        Table::Profiles => records(
            query_as!(
                ProfileRecord,
                "select app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed, mobile_sealed,
                    tenant_key, updated_at, synced_at
                 from user_profiles where (app_id, open_id) > ($1, $2) order by app_id, open_id limit $3",
                RowKey::part(after, 0), RowKey::part(after, 1),
                limit
            )
            .fetch_all(db)
            .await?,
        ),
        Table::Sessions => records(
            query_as!(
                SessionRecord,
                "select session_id, app_id, user_id, open_id, asked_open_id, asked_user_id, union_id, user_name, email_sealed, mobile_sealed,
                    auth_method, state, failure_reason, scopes, granted_scopes, card, oauth_state_sha256, oauth_state_sealed,
                    pkce_verifier_sealed, code_sha256, exchange_claim, exchange_claimed_until, exchange_sent_at,
                    exchange_unanswered_at, exchange_escrow_sealed, message_id, card_face, card_asked_at, created_at,
                    expires_at, completed_at, ended_at, announced_at, device_grant_sealed, device_expires_at,
                    device_interval_seconds, device_poll_at, device_opened_at, device_poll_failures, device_answer_lost,
                    device_card_is_stale
                 from user_auth_sessions where session_id > $1 order by session_id limit $2",
                uuid(after),
                limit
            )
            .fetch_all(db)
            .await?,
        ),
        Table::ApiKeys => records(
            query_as!(
                ApiKeyRecord,
                "select key_id, name, scopes, key_sha256, created_at, revoked_at, app_ids, lark_scopes, requests_per_minute,
                    expires_at, last_used_at
                 from api_keys where key_id > $1 order by key_id limit $2",
                uuid(after),
                limit
            )
            .fetch_all(db)
            .await?,
        ),
        Table::ProcessedEvents => records(
            query_as!(
                ProcessedEventRecord,
                "select consumer, event_id, processed_at
                 from processed_events where (consumer, event_id) > ($1, $2) order by consumer, event_id limit $3",
                RowKey::part(after, 0), RowKey::part(after, 1),
                limit
            )
            .fetch_all(db)
            .await?,
        ),
        Table::Audit => records(
            query_as!(
                AuditRecord,
                "select audit_id, at, actor_kind, actor_id, actor_name, action, app_id, person, session_id, key_id, address,
                    request_id, trace_id, outcome, reason, count, encryption_key
                 from audit_log where audit_id > $1 order by audit_id limit $2",
                uuid(after),
                limit
            )
            .fetch_all(db)
            .await?,
        ),
    })
}

async fn find(db: &mut PgConnection, table: Table, keys: &[RowKey]) -> sqlx::Result<Vec<Record>> {
    Ok(match table {
        Table::Applications => records(
            query_as!(
                ApplicationRecord,
                "select app_id, app_secret_sealed, verification_token_sealed, encrypt_key_sealed, brand, token_api,
                    redirect_uri, default_scopes, enabled, frozen_since, frozen_reason, created_at, updated_at
                 from applications where app_id = any($1)",
                &column(keys, 0)
            )
            .fetch_all(db)
            .await?,
        ),
        Table::Tokens => records(
            query_as!(
                TokenRecord,
                "select app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                    refresh_expires_at, scopes, issued_at, granted_at, generation, status, revoked_at, lease_owner,
                    lease_until, failures, next_attempt_at, last_used_at, ask_at, suspended_for, status_announcements
                 from access_tokens where (app_id, open_id, kind) in (select * from unnest($1::text[], $2::text[], $3::text[]))",
                &column(keys, 0),
                &column(keys, 1),
                &column(keys, 2)
            )
            .fetch_all(db)
            .await?,
        ),
        Table::Profiles => records(
            query_as!(
                ProfileRecord,
                "select app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed, mobile_sealed,
                    tenant_key, updated_at, synced_at
                 from user_profiles where (app_id, open_id) in (select * from unnest($1::text[], $2::text[]))",
                &column(keys, 0),
                &column(keys, 1)
            )
            .fetch_all(db)
            .await?,
        ),
        Table::Sessions => records(
            query_as!(
                SessionRecord,
                "select session_id, app_id, user_id, open_id, asked_open_id, asked_user_id, union_id, user_name, email_sealed, mobile_sealed,
                    auth_method, state, failure_reason, scopes, granted_scopes, card, oauth_state_sha256, oauth_state_sealed,
                    pkce_verifier_sealed, code_sha256, exchange_claim, exchange_claimed_until, exchange_sent_at,
                    exchange_unanswered_at, exchange_escrow_sealed, message_id, card_face, card_asked_at, created_at,
                    expires_at, completed_at, ended_at, announced_at, device_grant_sealed, device_expires_at,
                    device_interval_seconds, device_poll_at, device_opened_at, device_poll_failures, device_answer_lost,
                    device_card_is_stale
                 from user_auth_sessions where session_id = any($1)",
                &uuids(keys)
            )
            .fetch_all(db)
            .await?,
        ),
        Table::ApiKeys => records(
            query_as!(
                ApiKeyRecord,
                "select key_id, name, scopes, key_sha256, created_at, revoked_at, app_ids, lark_scopes, requests_per_minute,
                    expires_at, last_used_at
                 from api_keys where key_id = any($1)",
                &uuids(keys)
            )
            .fetch_all(db)
            .await?,
        ),
        Table::ProcessedEvents => records(
            query_as!(
                ProcessedEventRecord,
                "select consumer, event_id, processed_at
                 from processed_events where (consumer, event_id) in (select * from unnest($1::text[], $2::text[]))",
                &column(keys, 0),
                &column(keys, 1)
            )
            .fetch_all(db)
            .await?,
        ),
        Table::Audit => records(
            query_as!(
                AuditRecord,
                "select audit_id, at, actor_kind, actor_id, actor_name, action, app_id, person, session_id, key_id, address,
                    request_id, trace_id, outcome, reason, count, encryption_key
                 from audit_log where audit_id = any($1)",
                &uuids(keys)
            )
            .fetch_all(db)
            .await?,
        ),
    })
}

fn uuids(keys: &[RowKey]) -> Vec<Uuid> {
    keys.iter().map(|key| uuid(Some(key))).collect()
}

/// Writes one row unless its key exists; returns the number of rows written.
async fn insert(db: &mut PgConnection, row: &Record) -> sqlx::Result<u64> {
    let done = match row {
        Record::Applications(row) => {
            query!(
                "insert into applications (app_id, app_secret_sealed, verification_token_sealed, encrypt_key_sealed, brand, token_api,
                    redirect_uri, default_scopes, enabled, frozen_since, frozen_reason, created_at, updated_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                 on conflict (app_id) do nothing",
                row.app_id,
                row.app_secret_sealed,
                row.verification_token_sealed.as_deref(),
                row.encrypt_key_sealed.as_deref(),
                row.brand,
                row.token_api,
                row.redirect_uri,
                &row.default_scopes,
                row.enabled,
                row.frozen_since,
                row.frozen_reason.as_deref(),
                row.created_at,
                row.updated_at
            )
            .execute(db)
            .await?
        }
        Record::Tokens(row) => {
            query!(
                "insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                    refresh_expires_at, scopes, issued_at, granted_at, generation, status, revoked_at, lease_owner,
                    lease_until, failures, next_attempt_at, last_used_at, ask_at, suspended_for, status_announcements)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
                 on conflict (app_id, open_id, kind) do nothing",
                row.app_id,
                row.open_id,
                row.kind,
                row.access_token_sealed.as_deref(),
                row.access_expires_at,
                row.refresh_token_sealed.as_deref(),
                row.refresh_expires_at,
                &row.scopes,
                row.issued_at,
                row.granted_at,
                row.generation,
                row.status,
                row.revoked_at,
                row.lease_owner,
                row.lease_until,
                row.failures,
                row.next_attempt_at,
                row.last_used_at,
                row.ask_at,
                row.suspended_for.as_deref(),
                row.status_announcements
            )
            .execute(db)
            .await?
        }
        Record::Profiles(row) => {
            query!(
                "insert into user_profiles (app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed, mobile_sealed,
                    tenant_key, updated_at, synced_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                 on conflict (app_id, open_id) do nothing",
                row.app_id,
                row.open_id,
                row.union_id.as_deref(),
                row.user_id.as_deref(),
                row.name.as_deref(),
                row.en_name.as_deref(),
                row.avatar_url.as_deref(),
                row.email_sealed.as_deref(),
                row.mobile_sealed.as_deref(),
                row.tenant_key.as_deref(),
                row.updated_at,
                row.synced_at
            )
            .execute(db)
            .await?
        }
        Record::Sessions(row) => {
            query!(
                "insert into user_auth_sessions (session_id, app_id, user_id, open_id, union_id, user_name, email_sealed, mobile_sealed,
                    auth_method, state, failure_reason, scopes, card, oauth_state_sha256, oauth_state_sealed,
                    pkce_verifier_sealed, code_sha256, exchange_claim, exchange_claimed_until, exchange_sent_at,
                    exchange_unanswered_at, exchange_escrow_sealed, message_id, card_face, card_asked_at, created_at,
                    expires_at, completed_at, ended_at, asked_open_id, asked_user_id, granted_scopes, announced_at,
                    device_grant_sealed, device_expires_at, device_interval_seconds, device_poll_at, device_opened_at,
                    device_poll_failures, device_answer_lost, device_card_is_stale, token_id)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                        $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33,
                        $34, $35, $36, $37, $38, $39, $40, $41,
                        case when $10::text = 'completed' then
                            (select token_id from access_tokens t
                             where t.app_id = $2 and t.open_id = $4 and t.kind = 'user') end)
                 on conflict (session_id) do nothing",
                row.session_id,
                row.app_id,
                row.user_id.as_deref(),
                row.open_id.as_deref(),
                row.union_id.as_deref(),
                row.user_name.as_deref(),
                row.email_sealed.as_deref(),
                row.mobile_sealed.as_deref(),
                row.auth_method,
                row.state,
                row.failure_reason.as_deref(),
                &row.scopes,
                row.card,
                row.oauth_state_sha256,
                row.oauth_state_sealed.as_deref(),
                row.pkce_verifier_sealed.as_deref(),
                row.code_sha256.as_deref(),
                row.exchange_claim,
                row.exchange_claimed_until,
                row.exchange_sent_at,
                row.exchange_unanswered_at,
                row.exchange_escrow_sealed.as_deref(),
                row.message_id.as_deref(),
                row.card_face.as_deref(),
                row.card_asked_at,
                row.created_at,
                row.expires_at,
                row.completed_at,
                row.ended_at,
                row.asked_open_id.as_deref(),
                row.asked_user_id.as_deref(),
                row.granted_scopes.as_deref(),
                row.announced_at,
                row.device_grant_sealed.as_deref(),
                row.device_expires_at,
                row.device_interval_seconds,
                row.device_poll_at,
                row.device_opened_at,
                row.device_poll_failures,
                row.device_answer_lost,
                row.device_card_is_stale
            )
            .execute(db)
            .await?
        }
        Record::ApiKeys(row) => {
            query!(
                "insert into api_keys (key_id, name, scopes, key_sha256, created_at, revoked_at, app_ids, lark_scopes,
                                       requests_per_minute, expires_at, last_used_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
                 on conflict (key_id) do nothing",
                row.key_id,
                row.name,
                &row.scopes,
                row.key_sha256,
                row.created_at,
                row.revoked_at,
                &row.app_ids,
                &row.lark_scopes,
                row.requests_per_minute,
                row.expires_at,
                row.last_used_at
            )
            .execute(db)
            .await?
        }
        Record::ProcessedEvents(row) => {
            query!(
                "insert into processed_events (consumer, event_id, processed_at)
                 values ($1, $2, $3)
                 on conflict (consumer, event_id) do nothing",
                row.consumer,
                row.event_id,
                row.processed_at
            )
            .execute(db)
            .await?
        }
        Record::Audit(row) => {
            query!(
                "insert into audit_log (audit_id, at, actor_kind, actor_id, actor_name, action, app_id, person, session_id, key_id,
                    address, request_id, trace_id, outcome, reason, count, encryption_key)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
                 on conflict (audit_id) do nothing",
                row.audit_id,
                row.at,
                row.actor_kind,
                row.actor_id,
                row.actor_name.as_deref(),
                row.action,
                row.app_id.as_deref(),
                row.person.as_deref(),
                row.session_id,
                row.key_id,
                row.address.as_deref(),
                row.request_id.as_deref(),
                row.trace_id.as_deref(),
                row.outcome,
                row.reason.as_deref(),
                row.count,
                row.encryption_key.as_deref()
            )
            .execute(db)
            .await?
        }
    };
    Ok(done.rows_affected())
}
