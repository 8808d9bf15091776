use std::collections::{BTreeMap, btree_map::Entry};

use super::{Column, Kind, Portable, PortableRow, Table, each_page};
use crate::{Cipher, CipherError, Result};

/// A key whose values a cipher does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedKey {
    /// Sealed values that name it.
    pub values: u64,
    /// Why the first of them does not open.
    pub reason: CipherError,
}

/// Which of the keys that the database's values are sealed with the cipher does not have, or has with other bytes: for
/// each key one value has to open. Empty when it has them all, or nothing is sealed.
///
/// # Errors
/// When the database does not answer.
pub async fn closed_keys(database: &dyn Portable, cipher: &Cipher) -> Result<Vec<ClosedKey>> {
    // By the key's id; `None` for what is no sealed value at all. The reason goes as soon as one value opens.
    let mut keys: BTreeMap<Option<String>, (u64, Option<CipherError>)> = BTreeMap::new();
    for table in Table::ALL {
        each_page(database, table, async |rows| {
            for row in rows {
                for (column, value) in sealed(table, row) {
                    let id = Cipher::key_id(&value).ok().map(str::to_owned);
                    let open = || cipher.open(&[table.name(), column, &row.key(table)], &value).err();
                    match keys.entry(id) {
                        Entry::Vacant(new) => {
                            new.insert((1, open()));
                        }
                        Entry::Occupied(mut known) => {
                            let (values, reason) = known.get_mut();
                            *values += 1;
                            if reason.is_some() && open().is_none() {
                                *reason = None;
                            }
                        }
                    }
                }
            }
            Ok(())
        })
        .await?;
    }
    let closed =
        keys.into_values().filter_map(|(values, reason)| Some(ClosedKey { values, reason: reason? }));
    Ok(closed.collect())
}

/// The row's sealed values with their columns.
fn sealed(table: Table, row: &PortableRow) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let columns = table.shape().columns.iter().filter(|Column { kind, .. }| *kind == Kind::Sealed);
    columns.filter_map(|column| Some((column.name, hex::decode(row.text(column.name)?).unwrap_or_default())))
}
