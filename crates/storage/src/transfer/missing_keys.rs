use std::collections::{BTreeMap, btree_map::Entry};

use super::{Table, Transfer, each_page};
use crate::{Cipher, CipherError, Result};

/// An encryption key of stored values that a cipher does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKey {
    /// Sealed values that name it.
    pub values: u64,
    /// Why the first of them does not open.
    pub reason: CipherError,
}

/// Returns which encryption keys of the database's values the cipher lacks, or has with other bytes. At least one value
/// of each key has to open. Empty when the cipher has them all, or nothing is sealed.
///
/// # Errors
/// Fails when the database does not answer.
pub async fn missing_keys(database: &dyn Transfer, cipher: &Cipher) -> Result<Vec<MissingKey>> {
    // By the key's id; `None` for what is no sealed value at all. The reason is removed as soon as one value opens.
    let mut keys: BTreeMap<Option<String>, (u64, Option<CipherError>)> = BTreeMap::new();
    for table in Table::ALL {
        each_page(database, table, async |rows| {
            for row in rows {
                let row_key = row.key().to_string();
                for (column, value) in row.sealed() {
                    let id = Cipher::key_id(value).ok().map(str::to_owned);
                    let open = || cipher.open(&[table.name(), column, &row_key], value).err();
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
    let missing =
        keys.into_values().filter_map(|(values, reason)| Some(MissingKey { values, reason: reason? }));
    Ok(missing.collect())
}
