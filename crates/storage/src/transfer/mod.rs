//! Transfer of all rows between two databases. Each of them can be PostgreSQL or SQLite.
//!
//! A [`Record`] is a row of any table. Sealed values are copied without a key: both databases bind them to the same
//! names of table, column and row.
//!
//! To add a table or a column: add the field to `records`, with the name that it has in the migrations of both
//! databases, and to the statements in `transfer` of both database crates.

mod compare;
mod copy;
mod records;
mod table;

use async_trait::async_trait;

pub use self::{
    compare::{ComparedTable, compare},
    copy::{TableProgress, TransferredTable, transfer},
    records::{
        ApiKeyRecord, ApplicationRecord, AuditRecord, ProcessedEventRecord, ProfileRecord, Record, Replace,
        RowKey, SessionRecord, TokenRecord, key_ids,
    },
    table::Table,
};
use crate::Result;

/// A database whose rows can be exported to another and imported from another.
#[async_trait]
pub trait Transfer: Send + Sync {
    /// Returns at most `limit` rows in the order of their keys, after the given key or from the first one on.
    async fn export(&self, table: Table, after: Option<&RowKey>, limit: u32) -> Result<Vec<Record>>;
    /// Returns the rows that have these keys, in any order.
    async fn find(&self, table: Table, keys: &[RowKey]) -> Result<Vec<Record>>;
    /// Writes the rows whose key does not exist yet, in one transaction, and returns their number. Notes the encryption keys
    /// that they need.
    async fn import(&self, rows: &[Record]) -> Result<u64>;
    /// Returns the number of rows.
    async fn count(&self, table: Table) -> Result<u64>;
}

/// Rows per page. A token's row is 32 KB at most, so a page stays below 4 MB.
pub(crate) const PAGE: u32 = 100;

/// Passes all rows of a table to `work`, one page at a time.
async fn each_page(
    database: &dyn Transfer,
    table: Table,
    mut work: impl AsyncFnMut(&[Record]) -> Result<()>,
) -> Result<()> {
    let mut last: Option<RowKey> = None;
    loop {
        let rows = database.export(table, last.as_ref(), PAGE).await?;
        let Some(end) = rows.last() else { return Ok(()) };
        last = Some(end.key());
        work(&rows).await?;
    }
}
