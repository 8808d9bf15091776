use std::collections::HashMap;

use super::{Record, Table, TableProgress, Transfer, each_page};
use crate::Result;

/// Number of keys that [`ComparedTable`] names at most.
const NAMED: usize = 5;

/// Difference between one table of the source and the same table of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedTable {
    /// The table.
    pub table: Table,
    /// Rows in the source.
    pub rows: u64,
    /// Rows of the source that the target does not have.
    pub missing: u64,
    /// Rows of the source that the target has with other values.
    pub differing: u64,
    /// Keys of the first missing or differing rows.
    pub first: Vec<String>,
}

impl ComparedTable {
    /// Returns whether the target has every row of the source with equal values.
    #[must_use]
    pub const fn is_same(&self) -> bool {
        self.missing == 0 && self.differing == 0
    }
}

/// Reads every row of the source and compares it with the target's, value by value. Ignores rows that only the target
/// has.
///
/// # Errors
/// Fails when one of the databases does not answer.
pub async fn compare(
    source: &dyn Transfer,
    target: &dyn Transfer,
    mut progress: impl FnMut(TableProgress) + Send,
) -> Result<Vec<ComparedTable>> {
    let mut compared = Vec::new();
    for table in Table::ALL {
        let all = source.count(table).await?;
        let mut now = ComparedTable { table, rows: 0, missing: 0, differing: 0, first: Vec::new() };
        progress(TableProgress { table, source: all, read: 0 });
        each_page(source, table, async |rows| {
            let keys: Vec<_> = rows.iter().map(Record::key).collect();
            let found = target.find(table, &keys).await?;
            let found: HashMap<_, _> = found.iter().map(|row| (row.key(), row)).collect();
            for (row, key) in rows.iter().zip(keys) {
                match found.get(&key) {
                    Some(same) if *same == row => continue,
                    Some(_) => now.differing += 1,
                    None => now.missing += 1,
                }
                if now.first.len() < NAMED {
                    now.first.push(key.to_string());
                }
            }
            now.rows += rows.len() as u64;
            progress(TableProgress { table, source: all, read: now.rows });
            Ok(())
        })
        .await?;
        compared.push(now);
    }
    Ok(compared)
}
