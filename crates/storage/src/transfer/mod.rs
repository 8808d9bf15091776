//! Moving everything from one database to another, of either kind, in either direction.
//!
//! Rows travel as JSON, in one form for both databases: bytes are hexadecimal, times microseconds since 1970. Sealed
//! values stay sealed: both databases bind them to the same names of tables, columns and rows, so they are copied as
//! they are and no key is needed.
//!
//! To add a table or a column: name it in `shapes` as the migrations of both databases do.

mod compare;
mod keys;
mod shapes;
mod statements;
mod transfer;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use self::shapes::Shape;
pub use self::{
    compare::{ComparedTable, compare},
    keys::{ClosedKey, closed_keys},
    transfer::{TableProgress, TransferredTable, transfer},
};
pub(crate) use self::{
    shapes::{Column, Kind},
    statements::{Dialect, portable_by_dialect},
};
use crate::Result;

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
            Self::Applications => &shapes::APPLICATIONS,
            Self::Tokens => &shapes::TOKENS,
            Self::Profiles => &shapes::PROFILES,
            Self::Sessions => &shapes::SESSIONS,
            Self::ApiKeys => &shapes::API_KEYS,
            Self::ProcessedEvents => &shapes::PROCESSED_EVENTS,
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

impl PortableRow {
    /// The value of a column that is text in JSON.
    fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column)?.as_str()
    }

    /// What tells it apart from its table's other rows, in the form that errors and sealed values name it. No secret.
    #[must_use]
    pub fn key(&self, table: Table) -> String {
        let parts = table.shape().key.iter().map(|column| self.text(column.name).unwrap_or_default());
        parts.collect::<Vec<_>>().join("/")
    }
}

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
    /// Its rows with the keys of these, in any order.
    async fn find(&self, table: Table, rows: &[PortableRow]) -> Result<Vec<PortableRow>>;
    /// Writes those rows whose key is not there yet, all of them or none; gives their number.
    async fn import(&self, table: Table, rows: &[PortableRow]) -> Result<u64>;
    /// How many rows there are.
    async fn count(&self, table: Table) -> Result<u64>;
}

/// Rows per statement. A token's row is 32 KB at the most, so a page stays below 4 MB.
const PAGE: u32 = 100;

/// Hands all rows of a table to `work`, a page at a time.
async fn each_page(
    database: &dyn Portable,
    table: Table,
    mut work: impl AsyncFnMut(&[PortableRow]) -> Result<()>,
) -> Result<()> {
    let mut last: Option<PortableRow> = None;
    loop {
        let mut rows = database.export(table, last.as_ref(), PAGE).await?;
        if rows.is_empty() {
            return Ok(());
        }
        work(&rows).await?;
        last = rows.pop();
    }
}
