use super::KeySurvey;
use crate::{Cipher, CipherError, Result, transfer::Transfer};

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
    let survey = KeySurvey::of(database, cipher, |_| {}).await?;
    let missing = survey.keys.into_values().filter(|key| key.opened == 0);
    Ok(missing.filter_map(|key| Some(MissingKey { values: key.values, reason: key.reason? })).collect())
}
