//! Export and import of whole rows.

use async_trait::async_trait;
use larkauth_sqlite::BEGIN_WRITING;
use larkauth_storage::{
    Result,
    transfer::{
        ApiKeyRecord, ApplicationRecord, AuditRecord, ProcessedEventRecord, ProfileRecord, Record, RowKey,
        SessionRecord, Table, TokenRecord, Transfer,
    },
};
use sqlx::{Connection, SqliteConnection, query, query_as, query_scalar, types::Json};

use crate::{
    columns::{Id, JsonValue, Micros, OptionalId, OptionalMicros, OptionalTexts, Texts, micros},
    encryption_keys::note_imported,
    store::SqliteStore,
};

#[async_trait]
impl Transfer for SqliteStore {
    async fn export(&self, table: Table, after: Option<&RowKey>, limit: u32) -> Result<Vec<Record>> {
        self.read("exporting rows", async |db| export(db, table, after, limit).await).await
    }

    async fn find(&self, table: Table, keys: &[RowKey]) -> Result<Vec<Record>> {
        self.read("finding rows", async |db| find(db, table, keys).await).await
    }

    async fn import(&self, rows: &[Record]) -> Result<u64> {
        self.write("importing rows", async |db| {
            let mut tx = db.begin_with(BEGIN_WRITING).await?;
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
            .read("counting rows", async |db| match table {
                Table::Applications => {
                    query_scalar!(r#"select count(*) as "n!: i64" from applications"#).fetch_one(db).await
                }
                Table::Tokens => {
                    query_scalar!(r#"select count(*) as "n!: i64" from access_tokens"#).fetch_one(db).await
                }
                Table::Profiles => {
                    query_scalar!(r#"select count(*) as "n!: i64" from user_profiles"#).fetch_one(db).await
                }
                Table::Sessions => {
                    query_scalar!(r#"select count(*) as "n!: i64" from user_auth_sessions"#)
                        .fetch_one(db)
                        .await
                }
                Table::ApiKeys => {
                    query_scalar!(r#"select count(*) as "n!: i64" from api_keys"#).fetch_one(db).await
                }
                Table::ProcessedEvents => {
                    query_scalar!(r#"select count(*) as "n!: i64" from processed_events"#).fetch_one(db).await
                }
                Table::Audit => {
                    query_scalar!(r#"select count(*) as "n!: i64" from audit_log"#).fetch_one(db).await
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

async fn export(
    db: &mut SqliteConnection,
    table: Table,
    after: Option<&RowKey>,
    limit: u32,
) -> sqlx::Result<Vec<Record>> {
    let part = |n| RowKey::part(after, n);
    Ok(match table {
        Table::Applications => {
            let key_0 = part(0);
            let rows = query_as!(
                ApplicationRecord,
                r#"select app_id as "app_id!", app_secret_sealed as "app_secret_sealed!", verification_token_sealed,
                      encrypt_key_sealed, brand as "brand!", token_api as "token_api!", redirect_uri as "redirect_uri!",
                      default_scopes as "default_scopes!: Texts", enabled as "enabled!: bool",
                      frozen_since as "frozen_since!: OptionalMicros", frozen_reason,
                      created_at as "created_at!: Micros", updated_at as "updated_at!: Micros"
                   from applications where app_id > ?1 order by app_id limit ?2"#,
                key_0,
                limit
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::Tokens => {
            let key_0 = part(0);
            let key_1 = part(1);
            let key_2 = part(2);
            let rows = query_as!(
                TokenRecord,
                r#"select app_id as "app_id!", open_id as "open_id!", kind as "kind!", access_token_sealed,
                      access_expires_at as "access_expires_at!: Micros", refresh_token_sealed,
                      refresh_expires_at as "refresh_expires_at!: OptionalMicros", scopes as "scopes!: Texts",
                      issued_at as "issued_at!: Micros", granted_at as "granted_at!: Micros",
                      generation as "generation!", status as "status!", revoked_at as "revoked_at!: OptionalMicros",
                      lease_owner as "lease_owner!: OptionalId", lease_until as "lease_until!: OptionalMicros",
                      failures as "failures!: i32", next_attempt_at as "next_attempt_at!: OptionalMicros",
                      last_used_at as "last_used_at!: OptionalMicros"
                   from access_tokens where (app_id, open_id, kind) > (?1, ?2, ?3) order by app_id, open_id, kind limit ?4"#,
                key_0, key_1, key_2,
                limit
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::Profiles => {
            let key_0 = part(0);
            let key_1 = part(1);
            let rows = query_as!(
                ProfileRecord,
                r#"select app_id as "app_id!", open_id as "open_id!", union_id, user_id, name, en_name, avatar_url,
                      email_sealed, mobile_sealed, tenant_key, updated_at as "updated_at!: Micros"
                   from user_profiles where (app_id, open_id) > (?1, ?2) order by app_id, open_id limit ?3"#,
                key_0, key_1,
                limit
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::Sessions => {
            let key_0 = part(0);
            let rows = query_as!(
                SessionRecord,
                r#"select session_id as "session_id!: Id", app_id as "app_id!", user_id, open_id, asked_open_id, asked_user_id, union_id, user_name,
                      email_sealed, mobile_sealed, auth_method as "auth_method!", state as "state!", failure_reason,
                      scopes as "scopes!: Texts", granted_scopes as "granted_scopes!: OptionalTexts", card as "card!: JsonValue",
                      oauth_state_sha256 as "oauth_state_sha256!", oauth_state_sealed, pkce_verifier_sealed, code_sha256,
                      exchange_claim as "exchange_claim!: OptionalId",
                      exchange_claimed_until as "exchange_claimed_until!: OptionalMicros",
                      exchange_sent_at as "exchange_sent_at!: OptionalMicros",
                      exchange_unanswered_at as "exchange_unanswered_at!: OptionalMicros",
                      exchange_escrow_sealed, message_id, card_face,
                      card_asked_at as "card_asked_at!: OptionalMicros", created_at as "created_at!: Micros",
                      expires_at as "expires_at!: Micros", completed_at as "completed_at!: OptionalMicros",
                      ended_at as "ended_at!: OptionalMicros",
                      announced_at as "announced_at!: OptionalMicros"
                   from user_auth_sessions where session_id > ?1 order by session_id limit ?2"#,
                key_0,
                limit
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::ApiKeys => {
            let key_0 = part(0);
            let rows = query_as!(
                ApiKeyRecord,
                r#"select key_id as "key_id!: Id", name as "name!", scopes as "scopes!: Texts", key_sha256 as "key_sha256!",
                      created_at as "created_at!: Micros", revoked_at as "revoked_at!: OptionalMicros",
                      app_ids as "app_ids!: Texts", lark_scopes as "lark_scopes!: Texts", requests_per_minute,
                      expires_at as "expires_at!: OptionalMicros", last_used_at as "last_used_at!: OptionalMicros"
                   from api_keys where key_id > ?1 order by key_id limit ?2"#,
                key_0,
                limit
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::ProcessedEvents => {
            let key_0 = part(0);
            let key_1 = part(1);
            let rows = query_as!(
                ProcessedEventRecord,
                r#"select consumer as "consumer!", event_id as "event_id!", processed_at as "processed_at!: Micros"
                   from processed_events where (consumer, event_id) > (?1, ?2) order by consumer, event_id limit ?3"#,
                key_0, key_1,
                limit
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::Audit => {
            let key_0 = part(0);
            let rows = query_as!(
                AuditRecord,
                r#"select audit_id as "audit_id!: Id", at as "at!: Micros", actor_kind as "actor_kind!", actor_id as "actor_id!",
                      actor_name, action as "action!", app_id, person, session_id as "session_id!: OptionalId",
                      key_id as "key_id!: OptionalId", address, request_id, trace_id, outcome as "outcome!", reason
                   from audit_log where audit_id > ?1 order by audit_id limit ?2"#,
                key_0,
                limit
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
    })
}

async fn find(db: &mut SqliteConnection, table: Table, keys: &[RowKey]) -> sqlx::Result<Vec<Record>> {
    let keys = Json(keys.iter().map(|key| &key.0).collect::<Vec<_>>());
    Ok(match table {
        Table::Applications => {
            let rows = query_as!(
                ApplicationRecord,
                r#"select app_id as "app_id!", app_secret_sealed as "app_secret_sealed!", verification_token_sealed,
                      encrypt_key_sealed, brand as "brand!", token_api as "token_api!", redirect_uri as "redirect_uri!",
                      default_scopes as "default_scopes!: Texts", enabled as "enabled!: bool",
                      frozen_since as "frozen_since!: OptionalMicros", frozen_reason,
                      created_at as "created_at!: Micros", updated_at as "updated_at!: Micros"
                   from applications where app_id in (select value ->> 0 from json_each(?1))"#,
                keys
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::Tokens => {
            let rows = query_as!(
                TokenRecord,
                r#"select app_id as "app_id!", open_id as "open_id!", kind as "kind!", access_token_sealed,
                      access_expires_at as "access_expires_at!: Micros", refresh_token_sealed,
                      refresh_expires_at as "refresh_expires_at!: OptionalMicros", scopes as "scopes!: Texts",
                      issued_at as "issued_at!: Micros", granted_at as "granted_at!: Micros",
                      generation as "generation!", status as "status!", revoked_at as "revoked_at!: OptionalMicros",
                      lease_owner as "lease_owner!: OptionalId", lease_until as "lease_until!: OptionalMicros",
                      failures as "failures!: i32", next_attempt_at as "next_attempt_at!: OptionalMicros",
                      last_used_at as "last_used_at!: OptionalMicros"
                   from access_tokens where (app_id, open_id, kind) in (select value ->> 0, value ->> 1, value ->> 2 from json_each(?1))"#,
                keys
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::Profiles => {
            let rows = query_as!(
                ProfileRecord,
                r#"select app_id as "app_id!", open_id as "open_id!", union_id, user_id, name, en_name, avatar_url,
                      email_sealed, mobile_sealed, tenant_key, updated_at as "updated_at!: Micros"
                   from user_profiles where (app_id, open_id) in (select value ->> 0, value ->> 1 from json_each(?1))"#,
                keys
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::Sessions => {
            let rows = query_as!(
                SessionRecord,
                r#"select session_id as "session_id!: Id", app_id as "app_id!", user_id, open_id, asked_open_id, asked_user_id, union_id, user_name,
                      email_sealed, mobile_sealed, auth_method as "auth_method!", state as "state!", failure_reason,
                      scopes as "scopes!: Texts", granted_scopes as "granted_scopes!: OptionalTexts", card as "card!: JsonValue",
                      oauth_state_sha256 as "oauth_state_sha256!", oauth_state_sealed, pkce_verifier_sealed, code_sha256,
                      exchange_claim as "exchange_claim!: OptionalId",
                      exchange_claimed_until as "exchange_claimed_until!: OptionalMicros",
                      exchange_sent_at as "exchange_sent_at!: OptionalMicros",
                      exchange_unanswered_at as "exchange_unanswered_at!: OptionalMicros",
                      exchange_escrow_sealed, message_id, card_face,
                      card_asked_at as "card_asked_at!: OptionalMicros", created_at as "created_at!: Micros",
                      expires_at as "expires_at!: Micros", completed_at as "completed_at!: OptionalMicros",
                      ended_at as "ended_at!: OptionalMicros",
                      announced_at as "announced_at!: OptionalMicros"
                   from user_auth_sessions where session_id in (select value ->> 0 from json_each(?1))"#,
                keys
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::ApiKeys => {
            let rows = query_as!(
                ApiKeyRecord,
                r#"select key_id as "key_id!: Id", name as "name!", scopes as "scopes!: Texts", key_sha256 as "key_sha256!",
                      created_at as "created_at!: Micros", revoked_at as "revoked_at!: OptionalMicros",
                      app_ids as "app_ids!: Texts", lark_scopes as "lark_scopes!: Texts", requests_per_minute,
                      expires_at as "expires_at!: OptionalMicros", last_used_at as "last_used_at!: OptionalMicros"
                   from api_keys where key_id in (select value ->> 0 from json_each(?1))"#,
                keys
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::ProcessedEvents => {
            let rows = query_as!(
                ProcessedEventRecord,
                r#"select consumer as "consumer!", event_id as "event_id!", processed_at as "processed_at!: Micros"
                   from processed_events where (consumer, event_id) in (select value ->> 0, value ->> 1 from json_each(?1))"#,
                keys
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
        Table::Audit => {
            let rows = query_as!(
                AuditRecord,
                r#"select audit_id as "audit_id!: Id", at as "at!: Micros", actor_kind as "actor_kind!", actor_id as "actor_id!",
                      actor_name, action as "action!", app_id, person, session_id as "session_id!: OptionalId",
                      key_id as "key_id!: OptionalId", address, request_id, trace_id, outcome as "outcome!", reason
                   from audit_log where audit_id in (select value ->> 0 from json_each(?1))"#,
                keys
            )
            .fetch_all(db)
            .await?;
            records(rows)
        }
    })
}

/// Writes one row unless its key exists; returns the number of rows written.
async fn insert(db: &mut SqliteConnection, row: &Record) -> sqlx::Result<u64> {
    let done = match row {
        Record::Applications(row) => {
            let default_scopes = Json(&row.default_scopes);
            let frozen_since = row.frozen_since.map(micros);
            let created_at = micros(row.created_at);
            let updated_at = micros(row.updated_at);
            query!(
                "insert into applications (app_id, app_secret_sealed, verification_token_sealed, encrypt_key_sealed, brand, token_api,
                    redirect_uri, default_scopes, enabled, frozen_since, frozen_reason, created_at, updated_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                 on conflict (app_id) do nothing",
                row.app_id,
                row.app_secret_sealed,
                row.verification_token_sealed,
                row.encrypt_key_sealed,
                row.brand,
                row.token_api,
                row.redirect_uri,
                default_scopes,
                row.enabled,
                frozen_since,
                row.frozen_reason,
                created_at,
                updated_at
            )
            .execute(db)
            .await?
        }
        Record::Tokens(row) => {
            let access_expires_at = micros(row.access_expires_at);
            let refresh_expires_at = row.refresh_expires_at.map(micros);
            let scopes = Json(&row.scopes);
            let issued_at = micros(row.issued_at);
            let granted_at = micros(row.granted_at);
            let revoked_at = row.revoked_at.map(micros);
            let lease_owner = row.lease_owner.map(|id| id.hyphenated());
            let lease_until = row.lease_until.map(micros);
            let next_attempt_at = row.next_attempt_at.map(micros);
            let last_used_at = row.last_used_at.map(micros);
            query!(
                "insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                    refresh_expires_at, scopes, issued_at, granted_at, generation, status, revoked_at, lease_owner,
                    lease_until, failures, next_attempt_at, last_used_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
                 on conflict (app_id, open_id, kind) do nothing",
                row.app_id,
                row.open_id,
                row.kind,
                row.access_token_sealed,
                access_expires_at,
                row.refresh_token_sealed,
                refresh_expires_at,
                scopes,
                issued_at,
                granted_at,
                row.generation,
                row.status,
                revoked_at,
                lease_owner,
                lease_until,
                row.failures,
                next_attempt_at,
                last_used_at
            )
            .execute(db)
            .await?
        }
        Record::Profiles(row) => {
            let updated_at = micros(row.updated_at);
            query!(
                "insert into user_profiles (app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed, mobile_sealed,
                    tenant_key, updated_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 on conflict (app_id, open_id) do nothing",
                row.app_id,
                row.open_id,
                row.union_id,
                row.user_id,
                row.name,
                row.en_name,
                row.avatar_url,
                row.email_sealed,
                row.mobile_sealed,
                row.tenant_key,
                updated_at
            )
            .execute(db)
            .await?
        }
        Record::Sessions(row) => {
            let session_id = row.session_id.hyphenated();
            let scopes = Json(&row.scopes);
            let card = Json(&row.card);
            let exchange_claim = row.exchange_claim.map(|id| id.hyphenated());
            let exchange_claimed_until = row.exchange_claimed_until.map(micros);
            let exchange_sent_at = row.exchange_sent_at.map(micros);
            let exchange_unanswered_at = row.exchange_unanswered_at.map(micros);
            let card_asked_at = row.card_asked_at.map(micros);
            let granted_scopes = row.granted_scopes.as_ref().map(Json);
            let created_at = micros(row.created_at);
            let expires_at = micros(row.expires_at);
            let completed_at = row.completed_at.map(micros);
            let ended_at = row.ended_at.map(micros);
            let announced_at = row.announced_at.map(micros);
            query!(
                "insert into user_auth_sessions (session_id, app_id, user_id, open_id, union_id, user_name, email_sealed, mobile_sealed,
                    auth_method, state, failure_reason, scopes, card, oauth_state_sha256, oauth_state_sealed,
                    pkce_verifier_sealed, code_sha256, exchange_claim, exchange_claimed_until, exchange_sent_at,
                    exchange_unanswered_at, exchange_escrow_sealed, message_id, card_face, card_asked_at, created_at,
                    expires_at, completed_at, ended_at, asked_open_id, asked_user_id, granted_scopes, announced_at, token_id)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                        ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33,
                        case when ?10 = 'completed' then
                            (select token_id from access_tokens t
                             where t.app_id = ?2 and t.open_id = ?4 and t.kind = 'user') end)
                 on conflict (session_id) do nothing",
                session_id,
                row.app_id,
                row.user_id,
                row.open_id,
                row.union_id,
                row.user_name,
                row.email_sealed,
                row.mobile_sealed,
                row.auth_method,
                row.state,
                row.failure_reason,
                scopes,
                card,
                row.oauth_state_sha256,
                row.oauth_state_sealed,
                row.pkce_verifier_sealed,
                row.code_sha256,
                exchange_claim,
                exchange_claimed_until,
                exchange_sent_at,
                exchange_unanswered_at,
                row.exchange_escrow_sealed,
                row.message_id,
                row.card_face,
                card_asked_at,
                created_at,
                expires_at,
                completed_at,
                ended_at,
                row.asked_open_id,
                row.asked_user_id,
                granted_scopes,
                announced_at
            )
            .execute(db)
            .await?
        }
        Record::ApiKeys(row) => {
            let key_id = row.key_id.hyphenated();
            let scopes = Json(&row.scopes);
            let created_at = micros(row.created_at);
            let revoked_at = row.revoked_at.map(micros);
            let (app_ids, lark_scopes) = (Json(&row.app_ids), Json(&row.lark_scopes));
            let (expires_at, last_used_at) = (row.expires_at.map(micros), row.last_used_at.map(micros));
            query!(
                "insert into api_keys (key_id, name, scopes, key_sha256, created_at, revoked_at, app_ids, lark_scopes,
                                       requests_per_minute, expires_at, last_used_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 on conflict (key_id) do nothing",
                key_id,
                row.name,
                scopes,
                row.key_sha256,
                created_at,
                revoked_at,
                app_ids,
                lark_scopes,
                row.requests_per_minute,
                expires_at,
                last_used_at
            )
            .execute(db)
            .await?
        }
        Record::ProcessedEvents(row) => {
            let processed_at = micros(row.processed_at);
            query!(
                "insert into processed_events (consumer, event_id, processed_at)
                 values (?1, ?2, ?3)
                 on conflict (consumer, event_id) do nothing",
                row.consumer,
                row.event_id,
                processed_at
            )
            .execute(db)
            .await?
        }
        Record::Audit(row) => {
            let (audit_id, at) = (row.audit_id.hyphenated(), micros(row.at));
            let (session_id, key_id) =
                (row.session_id.map(|id| id.hyphenated()), row.key_id.map(|id| id.hyphenated()));
            // A trigger refuses a record that exists, before `on conflict` could skip it.
            query!(
                "insert into audit_log (audit_id, at, actor_kind, actor_id, actor_name, action, app_id, person, session_id, key_id,
                    address, request_id, trace_id, outcome, reason)
                 select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15
                 where not exists (select 1 from audit_log where audit_id = ?1)",
                audit_id,
                at,
                row.actor_kind,
                row.actor_id,
                row.actor_name,
                row.action,
                row.app_id,
                row.person,
                session_id,
                key_id,
                row.address,
                row.request_id,
                row.trace_id,
                row.outcome,
                row.reason
            )
            .execute(db)
            .await?
        }
    };
    Ok(done.rows_affected())
}
