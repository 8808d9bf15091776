//! Secrets inside messages. The publisher seals them, the handler opens them; the bus carries none in the clear.

use larkauth_contracts::message::SealedText;
use larkauth_models::SecretString;
use larkauth_storage::{Cipher, CipherError, Sealed};
use sha2::{Digest, Sha256};

/// Place of an authorization code in the contract; a sealed secret is bound to its place and its owner.
pub(crate) const CODE: &str = "message.authorization_code";
/// Place of a callback that is not recognized.
pub(crate) const CALLBACK: &str = "message.unrecognized_callback";

pub(crate) fn seal(
    cipher: &Cipher,
    place: &str,
    owner: &str,
    secret: &SecretString,
) -> Result<SealedText, CipherError> {
    Ok(SealedText(cipher.seal(&[place, owner], secret)?.to_text()))
}

pub(crate) fn open(
    cipher: &Cipher,
    place: &str,
    owner: &str,
    sealed: &SealedText,
) -> Result<SecretString, CipherError> {
    cipher.open(&[place, owner], &Sealed::from_text(&sealed.0)?.0)
}

/// Returns the SHA-256 of the parts, each preceded by its length.
pub(crate) fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// Returns the plain SHA-256, as the store expects it for OAuth `state`, codes and API keys.
#[must_use]
pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
