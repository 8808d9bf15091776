use super::{Table, Transfer, each_page};
use crate::Result;

/// How far [`transfer`] or [`compare`](super::compare) has come with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableProgress {
    /// The table.
    pub table: Table,
    /// Rows in the source, counted before the first was read.
    pub source: u64,
    /// Rows read so far.
    pub read: u64,
}

/// What [`transfer`] did with one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferredTable {
    /// The table.
    pub table: Table,
    /// Rows read from the source.
    pub read: u64,
    /// Rows of those that were not in the target yet.
    pub inserted: u64,
}

/// Copies all rows that the target does not have. Stopped at any point and started again, it goes on where it was: rows
/// that are there are left as they are; [`compare`](super::compare) tells of those that are not the same. Nothing else
/// should be writing to either database meanwhile.
///
/// # Errors
/// When one of the databases does not answer or refuses a row; what was copied before stays.
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
