//! Writing rows.

use larkauth_storage::transfer::Record;
use sqlx::{SqliteConnection, query, types::Json};

use crate::columns::micros;

/// Writes one row unless its key exists; returns the number of rows written.
pub(super) async fn insert(db: &mut SqliteConnection, row: &Record) -> sqlx::Result<u64> {
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
            let ask_at = micros(row.ask_at);
            query!(
                "insert into access_tokens (app_id, open_id, kind, access_token_sealed, access_expires_at, refresh_token_sealed,
                    refresh_expires_at, scopes, issued_at, granted_at, generation, status, revoked_at, lease_owner,
                    lease_until, failures, next_attempt_at, last_used_at, ask_at, suspended_for, status_announcements)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)
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
                last_used_at,
                ask_at,
                row.suspended_for,
                row.status_announcements
            )
            .execute(db)
            .await?
        }
        Record::Profiles(row) => {
            let updated_at = micros(row.updated_at);
            let synced_at = micros(row.synced_at);
            query!(
                "insert into user_profiles (app_id, open_id, union_id, user_id, name, en_name, avatar_url, email_sealed, mobile_sealed,
                    tenant_key, updated_at, synced_at)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
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
                updated_at,
                synced_at
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
            let device_expires_at = row.device_expires_at.map(micros);
            let device_poll_at = row.device_poll_at.map(micros);
            let device_opened_at = row.device_opened_at.map(micros);
            query!(
                "insert into user_auth_sessions (session_id, app_id, user_id, open_id, union_id, user_name, email_sealed, mobile_sealed,
                    auth_method, state, failure_reason, scopes, card, oauth_state_sha256, oauth_state_sealed,
                    pkce_verifier_sealed, code_sha256, exchange_claim, exchange_claimed_until, exchange_sent_at,
                    exchange_unanswered_at, exchange_escrow_sealed, message_id, card_face, card_asked_at, created_at,
                    expires_at, completed_at, ended_at, asked_open_id, asked_user_id, granted_scopes, announced_at,
                    device_grant_sealed, device_expires_at, device_interval_seconds, device_poll_at, device_opened_at,
                    device_poll_failures, device_answer_lost, device_card_is_stale, token_id)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                        ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33,
                        ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41,
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
                announced_at,
                row.device_grant_sealed,
                device_expires_at,
                row.device_interval_seconds,
                device_poll_at,
                device_opened_at,
                row.device_poll_failures,
                row.device_answer_lost,
                row.device_card_is_stale
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
                    address, request_id, trace_id, outcome, reason, count, encryption_key)
                 select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17
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
                row.reason,
                row.count,
                row.encryption_key
            )
            .execute(db)
            .await?
        }
    };
    Ok(done.rows_affected())
}
