use std::collections::{BTreeMap, btree_map::Entry};

use super::{Table, Transfer, each_page};
use crate::{Cipher, CipherError, Result};

/// An encryption key that stored values need and a cipher does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKey {
    /// Number of sealed values that name the key.
    pub values: u64,
    /// Reason why the first of these values does not open.
    pub reason: CipherError,
}

/// Returns the encryption keys that the database's values name and the cipher lacks or has with other bytes. A key is
/// present when at least one of its values opens. Empty when every key is present or the database has no sealed value.
///
/// # Errors
/// Fails when the database does not answer.
pub async fn missing_keys(database: &dyn Transfer, cipher: &Cipher) -> Result<Vec<MissingKey>> {
    // By the id of the key; `None` for a malformed value. The reason is removed when one value opens.
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
