use std::collections::HashMap;

use super::{Portable, Table, TableProgress, each_page};
use crate::Result;

/// Keys that [`ComparedTable`] names.
const NAMED: usize = 5;

/// How one table of the target stands to the source's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedTable {
    /// The table.
    pub table: Table,
    /// Rows in the source.
    pub rows: u64,
    /// Rows of those that the target does not have.
    pub missing: u64,
    /// Rows of those that the target has with other values.
    pub differing: u64,
    /// The keys of the first of them, missing or differing.
    pub first: Vec<String>,
}

impl ComparedTable {
    /// Whether the target has every row of the source, and each the same.
    #[must_use]
    pub const fn is_same(&self) -> bool {
        self.missing == 0 && self.differing == 0
    }
}

/// Reads every row of the source and looks for the same one in the target, value by value. Rows that only the target has
/// do not count.
///
/// # Errors
/// When one of the databases does not answer.
pub async fn compare(
    source: &dyn Portable,
    target: &dyn Portable,
    mut progress: impl FnMut(TableProgress) + Send,
) -> Result<Vec<ComparedTable>> {
    let mut compared = Vec::new();
    for table in Table::ALL {
        let all = source.count(table).await?;
        let mut now = ComparedTable { table, rows: 0, missing: 0, differing: 0, first: Vec::new() };
        progress(TableProgress { table, source: all, read: 0 });
        each_page(source, table, async |rows| {
            let there = target.find(table, rows).await?;
            let there: HashMap<_, _> = there.iter().map(|row| (row.key(table), row)).collect();
            for row in rows {
                let key = row.key(table);
                match there.get(&key) {
                    Some(same) if *same == row => continue,
                    Some(_) => now.differing += 1,
                    None => now.missing += 1,
                }
                if now.first.len() < NAMED {
                    now.first.push(key);
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
