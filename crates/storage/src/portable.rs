//! Moving everything from one database to another, of either kind, in either direction.
//!
//! Rows travel as JSON, in one form for both databases: bytes are hexadecimal, times microseconds since 1970. Sealed
//! values stay sealed: both databases bind them to the same names of tables, columns and rows, so they are copied as
//! they are and no key is needed.
//!
//! To add a table or a column: name it here as the migrations of both databases do.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Result, StorageError};

/// A table whose rows can move. The order is the one to move them in: rows refer only to tables before theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Registered applications.
    Applications,
    /// Tokens.
    Tokens,
    /// People.
    Profiles,
    /// Authorization sessions.
    Sessions,
    /// API keys.
    ApiKeys,
    /// Which events have had their effect, so that they have it once even when delivered again after the move.
    ProcessedEvents,
}

impl Table {
    /// Every table, in the order to move them in.
    pub const ALL: [Self; 6] = [
        Self::Applications,
        Self::Tokens,
        Self::Profiles,
        Self::Sessions,
        Self::ApiKeys,
        Self::ProcessedEvents,
    ];

    /// Its name in both databases.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.shape().table
    }

    pub(crate) fn shape(self) -> &'static Shape {
        match self {
            Self::Applications => &APPLICATIONS,
            Self::Tokens => &TOKENS,
            Self::Profiles => &PROFILES,
            Self::Sessions => &SESSIONS,
            Self::ApiKeys => &API_KEYS,
            Self::ProcessedEvents => &PROCESSED_EVENTS,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One row, as both databases understand it. Holds names and addresses of people in part, so its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PortableRow(serde_json::Map<String, serde_json::Value>);

impl fmt::Debug for PortableRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortableRow").finish_non_exhaustive()
    }
}

/// A database whose rows can be moved to another and taken over from another.
#[async_trait]
pub trait Portable: Send + Sync {
    /// At most `limit` rows, ordered by key, that come after the given one (from the first one on without it).
    async fn export(&self, table: Table, after: Option<&PortableRow>, limit: u32)
    -> Result<Vec<PortableRow>>;
    /// Writes those rows whose key is not there yet, all of them or none; gives their number.
    async fn import(&self, table: Table, rows: &[PortableRow]) -> Result<u64>;
    /// How many rows there are.
    async fn count(&self, table: Table) -> Result<u64>;
}

/// How far [`transfer`] has come with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableProgress {
    /// The table.
    pub table: Table,
    /// Rows in the source, counted before the first was read.
    pub source: u64,
    /// Rows read so far.
    pub read: u64,
    /// Rows of those that were not in the target yet.
    pub inserted: u64,
}

/// What [`transfer`] did with one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferredTable {
    /// The table.
    pub table: Table,
    /// Rows in the source, counted afterwards.
    pub source: u64,
    /// Rows that were not in the target yet.
    pub inserted: u64,
    /// Rows in the target, counted afterwards.
    pub target: u64,
}

impl TransferredTable {
    /// Whether the target has at least as many rows as the source.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.target >= self.source
    }
}

/// Rows per statement. A token's row is 32 KB at the most, so a page stays below 4 MB.
const PAGE: u32 = 100;

/// Copies all rows that the target does not have. Stopped at any point and started again, it goes on where it was: rows
/// that are there are left as they are. Nothing else should be writing to either database meanwhile.
///
/// # Errors
/// When one of the databases does not answer or refuses a row; what was copied before stays.
pub async fn transfer(
    source: &dyn Portable,
    target: &dyn Portable,
    mut progress: impl FnMut(TableProgress) + Send,
) -> Result<Vec<TransferredTable>> {
    let mut transferred = Vec::new();
    for table in Table::ALL {
        let mut now = TableProgress { table, source: source.count(table).await?, read: 0, inserted: 0 };
        progress(now);
        let mut last: Option<PortableRow> = None;
        loop {
            let mut rows = source.export(table, last.as_ref(), PAGE).await?;
            if rows.is_empty() {
                break;
            }
            now.inserted += target.import(table, &rows).await?;
            now.read += rows.len() as u64;
            progress(now);
            last = rows.pop();
        }
        transferred.push(TransferredTable {
            table,
            source: source.count(table).await?,
            inserted: now.inserted,
            target: target.count(table).await?,
        });
    }
    Ok(transferred)
}

/// How a column's values are written in JSON, and what the databases keep them as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Uuid,
    Integer,
    /// Microseconds since 1970.
    Time,
    Bool,
    /// Hexadecimal.
    Bytes,
    /// An array of texts.
    List,
    Json,
}

pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// What a table is made of.
pub(crate) struct Shape {
    table: &'static str,
    /// What tells its rows apart in any database.
    key: &'static [Column],
    columns: &'static [Column],
    /// A column that only means something inside one database, and the expression that finds its value in another.
    derived: Option<(&'static str, &'static str)>,
}

/// What the two databases say differently.
pub(crate) trait Dialect {
    /// The function that makes a JSON object.
    const OBJECT: &'static str;
    /// A column as a value in JSON.
    fn value(column: &Column) -> String;
    /// The same back, out of the record `r`.
    fn stored(column: &Column) -> String;
    /// The first parameter, an array of objects, as a relation `r`.
    fn records(columns: &[Column]) -> String;
    /// A parameter of that kind.
    fn parameter(number: usize, kind: Kind) -> String;
}

/// [`Portable`] for a store that speaks such a dialect; the last two are its methods that lend a connection.
macro_rules! portable_by_dialect {
    ($store:ident, $dialect:ident, $read:ident, $write:ident) => {
        #[async_trait::async_trait]
        impl $crate::Portable for $store {
            async fn export(
                &self,
                table: $crate::Table,
                after: Option<&$crate::PortableRow>,
                limit: u32,
            ) -> $crate::Result<Vec<$crate::PortableRow>> {
                let statement = table.shape().export::<$dialect>(after.is_some());
                let key = table.shape().key_of(after)?;
                let rows: Vec<sqlx::types::Json<$crate::PortableRow>> = self
                    .$read("exporting rows", async |db| {
                        let mut rows =
                            sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).bind(i64::from(limit));
                        for part in key {
                            rows = rows.bind(part);
                        }
                        rows.fetch_all(db).await
                    })
                    .await?;
                Ok(rows.into_iter().map(|row| row.0).collect())
            }

            async fn import(
                &self,
                table: $crate::Table,
                rows: &[$crate::PortableRow],
            ) -> $crate::Result<u64> {
                let statement = table.shape().import::<$dialect>();
                let done = self
                    .$write("importing rows", async |db| {
                        let rows = sqlx::types::Json(rows);
                        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(rows).execute(db).await
                    })
                    .await?;
                Ok(done.rows_affected())
            }

            async fn count(&self, table: $crate::Table) -> $crate::Result<u64> {
                let statement = table.shape().count();
                let count: i64 = self
                    .$read("counting rows", async |db| {
                        sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(db).await
                    })
                    .await?;
                Ok(count.unsigned_abs())
            }
        }
    };
}
pub(crate) use portable_by_dialect;

fn list<'a, C>(columns: impl IntoIterator<Item = &'a C>, text: impl FnMut(&'a C) -> String) -> String
where
    C: 'a,
{
    columns.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

impl Shape {
    /// Parameter 1 is the limit, those after it the key to start behind.
    pub(crate) fn export<D: Dialect>(&self, continued: bool) -> String {
        let key = list(self.key, |column| column.name.to_owned());
        let object = list(self.columns, |column| format!("'{}', {}", column.name, D::value(column)));
        let start = if continued {
            let mut number = 1;
            let last = list(self.key, |column| {
                number += 1;
                D::parameter(number, column.kind)
            });
            format!("where ({key}) > ({last})")
        } else {
            String::new()
        };
        let limit = D::parameter(1, Kind::Integer);
        format!("select {}({object}) from {} {start} order by {key} limit {limit}", D::OBJECT, self.table)
    }

    /// Parameter 1 is an array of rows.
    pub(crate) fn import<D: Dialect>(&self) -> String {
        let key = list(self.key, |column| column.name.to_owned());
        let mut names = list(self.columns, |column| column.name.to_owned());
        let mut values = list(self.columns, D::stored);
        if let Some((name, value)) = self.derived {
            names.push_str(&format!(", {name}"));
            values.push_str(&format!(", {value}"));
        }
        // `where true` tells SQLite that `on conflict` does not belong to a join.
        format!(
            "insert into {} ({names}) select {values} from {} where true on conflict ({key}) do nothing",
            self.table,
            D::records(self.columns)
        )
    }

    pub(crate) fn count(&self) -> String {
        format!("select count(*) from {}", self.table)
    }

    /// The row's key, for [`Shape::export`].
    pub(crate) fn key_of(&self, row: Option<&PortableRow>) -> Result<Vec<String>> {
        let Some(PortableRow(row)) = row else { return Ok(Vec::new()) };
        let part = |column: &Column| match row.get(column.name) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            _ => Err(StorageError::Corrupt {
                table: self.table,
                row: "to continue behind".to_owned(),
                message: format!("it has no {}", column.name),
            }),
        };
        self.key.iter().map(part).collect()
    }
}

macro_rules! shape {
    ($table:literal, key [$($key:ident: $key_kind:ident),+], [$($name:ident: $kind:ident),+ $(,)?], $derived:expr) => {
        Shape {
            table: $table,
            key: &[$(Column { name: stringify!($key), kind: Kind::$key_kind }),+],
            columns: &[
                $(Column { name: stringify!($key), kind: Kind::$key_kind },)+
                $(Column { name: stringify!($name), kind: Kind::$kind }),+
            ],
            derived: $derived,
        }
    };
}

static APPLICATIONS: Shape = shape!(
    "applications",
    key [app_id: Text],
    [
        app_secret_sealed: Bytes,
        verification_token_sealed: Bytes,
        encrypt_key_sealed: Bytes,
        brand: Text,
        token_api: Text,
        redirect_uri: Text,
        default_scopes: List,
        enabled: Bool,
        frozen_since: Time,
        frozen_reason: Text,
        created_at: Time,
        updated_at: Time,
    ],
    None
);

/// Without `token_id`, which is a number of this database only.
static TOKENS: Shape = shape!(
    "access_tokens",
    key [app_id: Text, open_id: Text, kind: Text],
    [
        access_token_sealed: Bytes,
        access_expires_at: Time,
        refresh_token_sealed: Bytes,
        refresh_expires_at: Time,
        scopes: List,
        issued_at: Time,
        granted_at: Time,
        generation: Integer,
        status: Text,
        revoked_at: Time,
        lease_owner: Uuid,
        lease_until: Time,
        failures: Integer,
        next_attempt_at: Time,
        last_used_at: Time,
    ],
    None
);

static PROFILES: Shape = shape!(
    "user_profiles",
    key [app_id: Text, open_id: Text],
    [
        union_id: Text,
        user_id: Text,
        name: Text,
        en_name: Text,
        avatar_url: Text,
        email_sealed: Bytes,
        mobile_sealed: Bytes,
        tenant_key: Text,
        updated_at: Time,
    ],
    None
);

static SESSIONS: Shape = shape!(
    "user_auth_sessions",
    key [session_id: Uuid],
    [
        app_id: Text,
        user_id: Text,
        open_id: Text,
        union_id: Text,
        user_name: Text,
        email_sealed: Bytes,
        mobile_sealed: Bytes,
        auth_method: Text,
        state: Text,
        failure_reason: Text,
        scopes: List,
        card: Json,
        oauth_state_sha256: Bytes,
        oauth_state_sealed: Bytes,
        pkce_verifier_sealed: Bytes,
        code_sha256: Bytes,
        exchange_claim: Uuid,
        exchange_claimed_until: Time,
        message_id: Text,
        card_face: Text,
        card_asked_at: Time,
        created_at: Time,
        expires_at: Time,
        completed_at: Time,
        ended_at: Time,
    ],
    // A completed session's token is its person's.
    Some((
        "token_id",
        "case when r.state = 'completed' then (
             select token_id from access_tokens t
             where t.app_id = r.app_id and t.open_id = r.open_id and t.kind = 'user') end"
    ))
);

static API_KEYS: Shape = shape!(
    "api_keys",
    key [key_id: Uuid],
    [name: Text, scopes: List, key_sha256: Bytes, created_at: Time, revoked_at: Time],
    None
);

static PROCESSED_EVENTS: Shape =
    shape!("processed_events", key [consumer: Text, event_id: Text], [processed_at: Time], None);
