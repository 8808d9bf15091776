use larkauth_models::{SecretString, SessionId, StoredSecret, UnreadableSecret};

use super::SESSIONS;
use crate::{Cipher, Result, StorageError};

/// Seals and opens the values of one row. Sealed values are bound to table and key of the row, and errors name both.
pub struct RowSeal<'a> {
    cipher: &'a Cipher,
    table: &'static str,
    key: String,
}

impl<'a> RowSeal<'a> {
    pub const fn new(cipher: &'a Cipher, table: &'static str, key: String) -> Self {
        Self { cipher, table, key }
    }

    pub fn session(cipher: &'a Cipher, id: SessionId) -> Self {
        Self::new(cipher, SESSIONS, id.to_string())
    }

    /// Creates it for a table with a key of several columns. The columns are joined by a slash, which no id contains.
    pub fn composite(cipher: &'a Cipher, table: &'static str, key: &[&str]) -> Self {
        Self::new(cipher, table, key.join("/"))
    }

    pub fn seal(&self, column: &'static str, value: &SecretString) -> Result<Vec<u8>> {
        self.cipher
            .seal(&[self.table, column, &self.key], value)
            .map(|sealed| sealed.0)
            .map_err(|error| StorageError::Refused { during: "encrypting", message: error.to_string() })
    }

    pub fn seal_option(&self, column: &'static str, value: Option<&SecretString>) -> Result<Option<Vec<u8>>> {
        value.map(|value| self.seal(column, value)).transpose()
    }

    pub(crate) fn open(&self, column: &'static str, sealed: &[u8]) -> Result<SecretString> {
        self.cipher.open(&[self.table, column, &self.key], sealed).map_err(|source| {
            StorageError::Undecryptable { table: self.table, column, row: self.key.clone(), source }
        })
    }

    pub(super) fn open_option(
        &self,
        column: &'static str,
        sealed: Option<&[u8]>,
    ) -> Result<Option<SecretString>> {
        sealed.map(|sealed| self.open(column, sealed)).transpose()
    }

    /// Opens a value that others of its row do not depend on.
    pub(crate) fn stored(&self, column: &'static str, sealed: &[u8]) -> StoredSecret {
        match self.cipher.open(&[self.table, column, &self.key], sealed) {
            Ok(secret) => StoredSecret::Readable(secret),
            Err(reason) => StoredSecret::Unreadable(UnreadableSecret {
                column,
                key_id: Cipher::key_id(sealed).ok().map(str::to_owned),
                reason: reason.to_string(),
            }),
        }
    }

    pub(crate) fn corrupt(&self, message: String) -> StorageError {
        StorageError::Corrupt { table: self.table, row: self.key.clone(), message }
    }

    /// Checks a stored value again. A value that is no longer valid is reported with this row.
    pub(super) fn checked<T, E: std::fmt::Display>(&self, value: std::result::Result<T, E>) -> Result<T> {
        value.map_err(|error| self.corrupt(error.to_string()))
    }

    pub(super) fn checked_option<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        text: Option<&str>,
    ) -> Result<Option<T>> {
        text.map(|text| self.checked(text.parse())).transpose()
    }
}
