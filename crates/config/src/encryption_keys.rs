use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::parse::{ParseError, parse_error};
use crate::{ConfigError, schema};

/// A 256-bit key that encrypts stored secrets, with its id.
#[derive(Clone)]
pub struct EncryptionKey {
    id: String,
    bytes: Zeroizing<[u8; 32]>,
}

impl EncryptionKey {
    /// Creates a key. The id is stored with every value that the key encrypts.
    #[must_use]
    pub const fn new(id: String, bytes: Zeroizing<[u8; 32]>) -> Self {
        Self { id, bytes }
    }
    /// Returns the id: 1 to 32 letters, digits or `_-`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
    /// Returns the key material.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Parses the content of a key file, `id:base64-of-32-bytes[,id2:…]`.
    ///
    /// # Errors
    /// Fails when the text is of another form. The error shows the position, never the content.
    pub fn read_list(text: &str) -> Result<Vec<Self>, ConfigError> {
        Self::parse_list(text).map_err(|error| ConfigError::Invalid {
            name: schema::ENCRYPTION_KEYS.name.to_owned(),
            problem: error.problem,
            cure: error.cure,
        })
    }

    /// Parses `id:base64-of-32-bytes[,id2:…]`.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>, ParseError> {
        const FORM: &str =
            "write `id:base64-of-32-bytes`, several separated by commas; `openssl rand -base64 32` makes one";
        let mut keys: Vec<Self> = Vec::new();
        for (position, entry) in text.trim_start_matches('\u{feff}').trim().split(',').enumerate() {
            let position = position + 1;
            let Some((id, encoded)) = entry.trim().split_once(':') else {
                return parse_error(format!("has no `id:` in key {position}"), FORM);
            };
            if id.is_empty()
                || id.len() > 32
                || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
            {
                return parse_error(
                    format!("has a bad id in key {position}"),
                    "use 1 to 32 letters, digits or `_-` as id",
                );
            }
            if keys.iter().any(|key| key.id == id) {
                return parse_error(
                    format!("has the id of key {position} twice"),
                    "give each key a different id",
                );
            }
            let Ok(decoded) = BASE64_STANDARD.decode(encoded).map(Zeroizing::new) else {
                return parse_error(format!("has no base64 in key {position}"), FORM);
            };
            let Ok(bytes) = <[u8; 32]>::try_from(decoded.as_slice()).map(Zeroizing::new) else {
                return parse_error(format!("has {} bytes in key {position}, not 32", decoded.len()), FORM);
            };
            keys.push(Self::new(id.to_owned(), bytes));
        }
        Ok(keys)
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey").field("id", &self.id).finish_non_exhaustive()
    }
}
