//! The columns of each table as a record has them, and conversion of its rows.

use larkauth_storage::transfer::Record;

/// Reads whole rows of a table.
macro_rules! rows {
    ($db:expr, Applications, $rest:literal, $($argument:expr),+) => {{
        let rows = query_as!(
            ApplicationRecord,
            r#"select app_id as "app_id!", app_secret_sealed as "app_secret_sealed!", verification_token_sealed,
                  encrypt_key_sealed, brand as "brand!", token_api as "token_api!", redirect_uri as "redirect_uri!",
                  default_scopes as "default_scopes!: Texts", enabled as "enabled!: bool",
                  frozen_since as "frozen_since!: OptionalMicros", frozen_reason,
                  created_at as "created_at!: Micros", updated_at as "updated_at!: Micros"
               from applications "# + $rest,
            $($argument),+
        );
        records(rows.fetch_all($db).await?)
    }};
    ($db:expr, Tokens, $rest:literal, $($argument:expr),+) => {{
        let rows = query_as!(
            TokenRecord,
            r#"select app_id as "app_id!", open_id as "open_id!", kind as "kind!", access_token_sealed,
                  access_expires_at as "access_expires_at!: Micros", refresh_token_sealed,
                  refresh_expires_at as "refresh_expires_at!: OptionalMicros", scopes as "scopes!: Texts",
                  issued_at as "issued_at!: Micros", granted_at as "granted_at!: Micros",
                  generation as "generation!", status as "status!", revoked_at as "revoked_at!: OptionalMicros",
                  lease_owner as "lease_owner!: OptionalId", lease_until as "lease_until!: OptionalMicros",
                  failures as "failures!: i32", next_attempt_at as "next_attempt_at!: OptionalMicros",
                  last_used_at as "last_used_at!: OptionalMicros", ask_at as "ask_at!: Micros", suspended_for,
                  status_announcements as "status_announcements!: i32"
               from access_tokens "# + $rest,
            $($argument),+
        );
        records(rows.fetch_all($db).await?)
    }};
    ($db:expr, Profiles, $rest:literal, $($argument:expr),+) => {{
        let rows = query_as!(
            ProfileRecord,
            r#"select app_id as "app_id!", open_id as "open_id!", union_id, user_id, name, en_name, avatar_url,
                  email_sealed, mobile_sealed, tenant_key, updated_at as "updated_at!: Micros",
                  synced_at as "synced_at!: Micros"
               from user_profiles "# + $rest,
            $($argument),+
        );
        records(rows.fetch_all($db).await?)
    }};
    ($db:expr, Sessions, $rest:literal, $($argument:expr),+) => {{
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
                  announced_at as "announced_at!: OptionalMicros", device_grant_sealed,
                  device_expires_at as "device_expires_at!: OptionalMicros",
                  device_interval_seconds as "device_interval_seconds?: i32",
                  device_poll_at as "device_poll_at!: OptionalMicros",
                  device_opened_at as "device_opened_at!: OptionalMicros",
                  device_poll_failures as "device_poll_failures!: i32",
                  device_answer_lost as "device_answer_lost!: bool",
                  device_card_is_stale as "device_card_is_stale!: bool"
               from user_auth_sessions "# + $rest,
            $($argument),+
        );
        records(rows.fetch_all($db).await?)
    }};
    ($db:expr, ApiKeys, $rest:literal, $($argument:expr),+) => {{
        let rows = query_as!(
            ApiKeyRecord,
            r#"select key_id as "key_id!: Id", name as "name!", scopes as "scopes!: Texts", key_sha256 as "key_sha256!",
                  created_at as "created_at!: Micros", revoked_at as "revoked_at!: OptionalMicros",
                  app_ids as "app_ids!: Texts", lark_scopes as "lark_scopes!: Texts", requests_per_minute,
                  expires_at as "expires_at!: OptionalMicros", last_used_at as "last_used_at!: OptionalMicros"
               from api_keys "# + $rest,
            $($argument),+
        );
        records(rows.fetch_all($db).await?)
    }};
    ($db:expr, ProcessedEvents, $rest:literal, $($argument:expr),+) => {{
        let rows = query_as!(
            ProcessedEventRecord,
            r#"select consumer as "consumer!", event_id as "event_id!", processed_at as "processed_at!: Micros"
               from processed_events "# + $rest,
            $($argument),+
        );
        records(rows.fetch_all($db).await?)
    }};
    ($db:expr, Audit, $rest:literal, $($argument:expr),+) => {{
        let rows = query_as!(
            AuditRecord,
            r#"select audit_id as "audit_id!: Id", at as "at!: Micros", actor_kind as "actor_kind!", actor_id as "actor_id!",
                  actor_name, action as "action!", app_id, person, session_id as "session_id!: OptionalId",
                  key_id as "key_id!: OptionalId", address, request_id, trace_id, outcome as "outcome!", reason, count as "count!: i32",
                  encryption_key
               from audit_log "# + $rest,
            $($argument),+
        );
        records(rows.fetch_all($db).await?)
    }};
}
pub(super) use rows;

/// Returns the rows as records of any table.
pub(super) fn records<R: Into<Record>>(rows: Vec<R>) -> Vec<Record> {
    rows.into_iter().map(Into::into).collect()
}
