use super::{Table, Transfer, each_page};
use crate::Result;

/// Progress of [`transfer`] or [`compare`](super::compare) in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableProgress {
    /// The table.
    pub table: Table,
    /// Rows in the source, counted before the first page was read.
    pub source: u64,
    /// Rows read so far.
    pub read: u64,
}

/// Result of [`transfer`] for one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferredTable {
    /// The table.
    pub table: Table,
    /// Rows read from the source.
    pub read: u64,
    /// Rows written to the target, which did not have them.
    pub inserted: u64,
}

/// Copies all rows that the target does not have. Rows that the target has are not changed, so an interrupted transfer
/// can be started again; [`compare`](super::compare) reports rows that differ. No other process may write to either
/// database during the transfer.
///
/// # Errors
/// Fails when one of the databases does not answer or refuses a row. Rows copied before remain in the target.
pub async fn transfer(
    source: &dyn Transfer,
    target: &dyn Transfer,
    mut progress: impl FnMut(TableProgress) + Send,
) -> Result<Vec<TransferredTable>> {
    let mut transferred = Vec::new();
    for table in Table::ALL {
        let all = source.count(table).await?;
        let mut done = TransferredTable { table, read: 0, inserted: 0 };
        progress(TableProgress { table, source: all, read: 0 });
        each_page(source, table, async |rows| {
            done.inserted += target.import(rows).await?;
            done.read += rows.len() as u64;
            progress(TableProgress { table, source: all, read: done.read });
            Ok(())
        })
        .await?;
        transferred.push(done);
    }
    Ok(transferred)
}
