use std::ops::ControlFlow;

use super::{EncryptionKeys, Resealed};
use crate::{
    Cipher, Result,
    transfer::{PAGE, Record, RowKey, Table, TableProgress},
};

/// Attempts at one page whose rows are changed or held meanwhile.
const ATTEMPTS: u32 = 3;

/// Result of [`rotate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Rows that were read.
    pub read: u64,
    /// Rows whose values were sealed again.
    pub resealed: u64,
    /// Rows that other processes changed or held in every attempt.
    pub left: u64,
    /// The caller ended it before all rows were read.
    pub is_stopped: bool,
}

/// Seals every value again with the first key that is sealed with another one, page by page in the order of the keys of
/// the rows. A value that does not open is left untouched. Any number of processes may do so at once, also while others write.
/// A call that was interrupted is made again: what is sealed with the first key is only read. `progress` ends it by
/// [`ControlFlow::Break`], between two pages.
///
/// # Errors
/// Fails when the database does not answer. Pages before that are done.
pub async fn rotate(
    database: &dyn EncryptionKeys,
    cipher: &Cipher,
    mut progress: impl FnMut(TableProgress) -> ControlFlow<()> + Send,
) -> Result<Rotated> {
    let mut rotated = Rotated::default();
    for table in Table::with_sealed() {
        let source = database.count(table).await?;
        let (mut last, mut read): (Option<RowKey>, u64) = (None, 0);
        loop {
            if progress(TableProgress { table, source, read }).is_break() {
                return Ok(Rotated { is_stopped: true, ..rotated });
            }
            let rows = database.export(table, last.as_ref(), PAGE).await?;
            let Some(end) = rows.last() else { break };
            last = Some(end.key());
            read += rows.len() as u64;
            rotated.read += rows.len() as u64;
            page(database, cipher, table, rows, &mut rotated).await?;
        }
    }
    Ok(rotated)
}

async fn page(
    database: &dyn EncryptionKeys,
    cipher: &Cipher,
    table: Table,
    mut rows: Vec<Record>,
    rotated: &mut Rotated,
) -> Result<()> {
    for attempt in 1.. {
        let changes: Vec<Resealed> = rows.into_iter().filter_map(|row| resealed(cipher, row)).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let done = database.reseal(&changes).await?;
        rotated.resealed += done.iter().filter(|done| **done).count() as u64;
        let missed = changes.iter().zip(done).filter(|(_, done)| !done);
        let keys: Vec<RowKey> = missed.map(|(change, _)| change.old.key()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        if attempt == ATTEMPTS {
            rotated.left += keys.len() as u64;
            return Ok(());
        }
        rows = database.find(table, &keys).await?;
    }
    Ok(())
}

/// Returns the row with its values sealed again. `None` when no value needs it.
fn resealed(cipher: &Cipher, old: Record) -> Option<Resealed> {
    let (table, key) = (old.table().name(), old.key().to_string());
    let mut new = old.clone();
    let is_changed = new.replace_sealed(&mut |column, value| {
        let sealed = cipher.reseal(&[table, column, &key], value).ok()??;
        Some(sealed.0)
    });
    is_changed.then_some(Resealed { old, new })
}
