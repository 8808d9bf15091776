//! One type for each table: a whole row in a form that does not depend on the database.

use std::collections::BTreeSet;

use larkauth_models::Timestamp;
use uuid::Uuid;

use super::table::Table;
use crate::{AuditEntry, Cipher};

/// Declares a record, its table and key, and its sealed columns.
macro_rules! record {
    (
        $(#[$meta:meta])* $name:ident of $table:ident
        key [$($key:ident),+]
        sealed [$($sealed:ident),*]
        { $($field:ident: $type:ty),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each field is the column of its name")]
        pub struct $name { $(pub $field: $type),+ }

        impl $name {
            const SEALED: &'static [&'static str] = &[$(stringify!($sealed)),*];

            fn key(&self) -> Vec<String> { vec![$(self.$key.to_string()),+] }

            fn columns(&self) -> &'static [&'static str] { &[$(stringify!($field)),+] }

            fn sealed(&self) -> Vec<(&'static str, &[u8])> {
                let columns: Vec<(&'static str, Option<&[u8]>)> =
                    vec![$((stringify!($sealed), AsSealed::bytes(&self.$sealed))),*];
                columns.into_iter().filter_map(|(column, value)| Some((column, value?))).collect()
            }

            fn replace_sealed(&mut self, replace: &mut Replace<'_>) -> bool {
                let columns: Vec<(&'static str, &mut dyn AsSealed)> =
                    vec![$((stringify!($sealed), &mut self.$sealed)),*];
                let mut replaced = false;
                for (column, value) in columns {
                    if let Some(new) = value.bytes().and_then(|old| replace(column, old)) {
                        value.set(new);
                        replaced = true;
                    }
                }
                replaced
            }
        }

        impl From<$name> for Record {
            fn from(row: $name) -> Self { Self::$table(Box::new(row)) }
        }
    };
}

/// Returns the new value of a column, or `None` to keep the given one.
pub type Replace<'a> = dyn FnMut(&'static str, &[u8]) -> Option<Vec<u8>> + Send + 'a;

trait AsSealed {
    fn bytes(&self) -> Option<&[u8]>;
    fn set(&mut self, value: Vec<u8>);
}
impl AsSealed for Vec<u8> {
    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }
    fn set(&mut self, value: Vec<u8>) {
        *self = value;
    }
}
impl AsSealed for Option<Vec<u8>> {
    fn bytes(&self) -> Option<&[u8]> {
        self.as_deref()
    }
    fn set(&mut self, value: Vec<u8>) {
        *self = Some(value);
    }
}

record! {
    /// A row of `applications`.
    ApplicationRecord of Applications
    key [app_id]
    sealed [app_secret_sealed, verification_token_sealed, encrypt_key_sealed]
    {
        app_id: String,
        app_secret_sealed: Vec<u8>,
        verification_token_sealed: Option<Vec<u8>>,
        encrypt_key_sealed: Option<Vec<u8>>,
        brand: String,
        token_api: String,
        redirect_uri: String,
        default_scopes: Vec<String>,
        enabled: bool,
        frozen_since: Option<Timestamp>,
        frozen_reason: Option<String>,
        created_at: Timestamp,
        updated_at: Timestamp,
    }
}

record! {
    /// A row of `access_tokens`, without `token_id`, which each database assigns.
    TokenRecord of Tokens
    key [app_id, open_id, kind]
    sealed [access_token_sealed, refresh_token_sealed]
    {
        app_id: String,
        open_id: String,
        kind: String,
        access_token_sealed: Option<Vec<u8>>,
        access_expires_at: Timestamp,
        refresh_token_sealed: Option<Vec<u8>>,
        refresh_expires_at: Option<Timestamp>,
        scopes: Vec<String>,
        issued_at: Timestamp,
        granted_at: Timestamp,
        generation: i64,
        status: String,
        revoked_at: Option<Timestamp>,
        lease_owner: Option<Uuid>,
        lease_until: Option<Timestamp>,
        failures: i32,
        next_attempt_at: Option<Timestamp>,
        last_used_at: Option<Timestamp>,
        ask_at: Timestamp,
        suspended_for: Option<String>,
        status_announcements: i32,
    }
}

record! {
    /// A row of `user_profiles`.
    ProfileRecord of Profiles
    key [app_id, open_id]
    sealed [email_sealed, mobile_sealed]
    {
        app_id: String,
        open_id: String,
        union_id: Option<String>,
        user_id: Option<String>,
        name: Option<String>,
        en_name: Option<String>,
        avatar_url: Option<String>,
        email_sealed: Option<Vec<u8>>,
        mobile_sealed: Option<Vec<u8>>,
        tenant_key: Option<String>,
        updated_at: Timestamp,
        synced_at: Timestamp,
    }
}

record! {
    /// A row of `user_auth_sessions`, without `token_id`: the import finds the token of a completed session by its
    /// person.
    SessionRecord of Sessions
    key [session_id]
    sealed [email_sealed, mobile_sealed, oauth_state_sealed, pkce_verifier_sealed, exchange_escrow_sealed,
        device_grant_sealed]
    {
        session_id: Uuid,
        app_id: String,
        user_id: Option<String>,
        open_id: Option<String>,
        asked_open_id: Option<String>,
        asked_user_id: Option<String>,
        union_id: Option<String>,
        user_name: Option<String>,
        email_sealed: Option<Vec<u8>>,
        mobile_sealed: Option<Vec<u8>>,
        auth_method: String,
        state: String,
        failure_reason: Option<String>,
        scopes: Vec<String>,
        granted_scopes: Option<Vec<String>>,
        card: serde_json::Value,
        oauth_state_sha256: Vec<u8>,
        oauth_state_sealed: Option<Vec<u8>>,
        pkce_verifier_sealed: Option<Vec<u8>>,
        code_sha256: Option<Vec<u8>>,
        exchange_claim: Option<Uuid>,
        exchange_claimed_until: Option<Timestamp>,
        exchange_sent_at: Option<Timestamp>,
        exchange_unanswered_at: Option<Timestamp>,
        exchange_escrow_sealed: Option<Vec<u8>>,
        message_id: Option<String>,
        card_face: Option<String>,
        card_asked_at: Option<Timestamp>,
        created_at: Timestamp,
        expires_at: Timestamp,
        completed_at: Option<Timestamp>,
        ended_at: Option<Timestamp>,
        announced_at: Option<Timestamp>,
        device_grant_sealed: Option<Vec<u8>>,
        device_expires_at: Option<Timestamp>,
        device_interval_seconds: Option<i32>,
        device_poll_at: Option<Timestamp>,
        device_opened_at: Option<Timestamp>,
        device_poll_failures: i32,
        device_answer_lost: bool,
        device_card_is_stale: bool,
    }
}

record! {
    /// A row of `api_keys`.
    ApiKeyRecord of ApiKeys
    key [key_id]
    sealed []
    {
        key_id: Uuid,
        name: String,
        scopes: Vec<String>,
        key_sha256: Vec<u8>,
        created_at: Timestamp,
        revoked_at: Option<Timestamp>,
        app_ids: Vec<String>,
        lark_scopes: Vec<String>,
        requests_per_minute: Option<i64>,
        expires_at: Option<Timestamp>,
        last_used_at: Option<Timestamp>,
    }
}

record! {
    /// A row of `processed_events`.
    ProcessedEventRecord of ProcessedEvents
    key [consumer, event_id]
    sealed []
    {
        consumer: String,
        event_id: String,
        processed_at: Timestamp,
    }
}

record! {
    /// A row of `audit_log`.
    AuditRecord of Audit
    key [audit_id]
    sealed []
    {
        audit_id: Uuid,
        at: Timestamp,
        actor_kind: String,
        actor_id: String,
        actor_name: Option<String>,
        action: String,
        app_id: Option<String>,
        person: Option<String>,
        session_id: Option<Uuid>,
        key_id: Option<Uuid>,
        address: Option<String>,
        request_id: Option<String>,
        trace_id: Option<String>,
        outcome: String,
        reason: Option<String>,
        count: i32,
        encryption_key: Option<String>,
    }
}

impl From<&AuditEntry> for Record {
    fn from(entry: &AuditEntry) -> Self {
        let AuditEntry { id, at, actor_kind, actor_id, actor_name, action, app_id, person, .. } =
            entry.clone();
        let AuditEntry { session_id, key_id, address, request_id, trace_id, outcome, reason, .. } =
            entry.clone();
        let AuditEntry { count, encryption_key, .. } = entry.clone();
        let row = AuditRecord {
            audit_id: id,
            at,
            actor_kind,
            actor_id,
            actor_name,
            action,
            app_id,
            person,
            session_id,
            key_id,
            address,
            request_id,
            trace_id,
            outcome,
            reason,
            count,
            encryption_key,
        };
        row.into()
    }
}

/// One row of any table. `Debug` shows the table only, because a row holds names of people.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the table of its name")]
pub enum Record {
    Applications(Box<ApplicationRecord>),
    Tokens(Box<TokenRecord>),
    Profiles(Box<ProfileRecord>),
    Sessions(Box<SessionRecord>),
    ApiKeys(Box<ApiKeyRecord>),
    ProcessedEvents(Box<ProcessedEventRecord>),
    Audit(Box<AuditRecord>),
}

macro_rules! each {
    ($record:ident, $row:ident => $result:expr) => {
        match $record {
            Record::Applications($row) => $result,
            Record::Tokens($row) => $result,
            Record::Profiles($row) => $result,
            Record::Sessions($row) => $result,
            Record::ApiKeys($row) => $result,
            Record::ProcessedEvents($row) => $result,
            Record::Audit($row) => $result,
        }
    };
}

impl Record {
    /// Returns the table of the row.
    #[must_use]
    pub const fn table(&self) -> Table {
        match self {
            Self::Applications(_) => Table::Applications,
            Self::Tokens(_) => Table::Tokens,
            Self::Profiles(_) => Table::Profiles,
            Self::Sessions(_) => Table::Sessions,
            Self::ApiKeys(_) => Table::ApiKeys,
            Self::ProcessedEvents(_) => Table::ProcessedEvents,
            Self::Audit(_) => Table::Audit,
        }
    }

    /// Returns the key of the row, which is not secret.
    #[must_use]
    pub fn key(&self) -> RowKey {
        RowKey(each!(self, row => row.key()))
    }

    /// Returns the names of the transferred columns.
    #[must_use]
    pub fn columns(&self) -> &'static [&'static str] {
        each!(self, row => row.columns())
    }

    /// Returns the sealed values of the row with their columns.
    #[must_use]
    pub fn sealed(&self) -> Vec<(&'static str, &[u8])> {
        each!(self, row => row.sealed())
    }

    /// Replaces sealed values of the row. Returns whether one was replaced.
    pub fn replace_sealed(&mut self, replace: &mut Replace<'_>) -> bool {
        each!(self, row => row.replace_sealed(replace))
    }
}

impl Table {
    /// Returns the columns that hold sealed values. This is the one list of them.
    #[must_use]
    pub const fn sealed_columns(self) -> &'static [&'static str] {
        match self {
            Self::Applications => ApplicationRecord::SEALED,
            Self::Tokens => TokenRecord::SEALED,
            Self::Profiles => ProfileRecord::SEALED,
            Self::Sessions => SessionRecord::SEALED,
            Self::ApiKeys => ApiKeyRecord::SEALED,
            Self::ProcessedEvents => ProcessedEventRecord::SEALED,
            Self::Audit => AuditRecord::SEALED,
        }
    }

    /// Returns the tables that hold sealed values.
    pub fn with_sealed() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|table| !table.sealed_columns().is_empty())
    }
}

/// Returns the ids of the keys that sealed values of these rows.
#[must_use]
pub fn key_ids(rows: &[Record]) -> BTreeSet<&str> {
    let values = rows.iter().flat_map(Record::sealed);
    values.filter_map(|(_, value)| Cipher::key_id(value).ok()).collect()
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("table", &self.table()).finish_non_exhaustive()
    }
}

/// Key of a row: the values of its key columns as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowKey(pub Vec<String>);

impl RowKey {
    /// Returns the n-th value, or an empty text, which sorts before every other.
    #[must_use]
    pub fn part(key: Option<&Self>, n: usize) -> &str {
        key.and_then(|key| key.0.get(n)).map_or("", String::as_str)
    }
}

impl std::fmt::Display for RowKey {
    /// Writes the key as errors and sealed values name it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}
