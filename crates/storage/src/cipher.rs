use std::{collections::BTreeMap, fmt, sync::Arc};

use aes_gcm::{
    Aes256Gcm, Key, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use larkauth_models::{Entropy, ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Failure to seal or open a value, or to accept the configured keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// No key is configured.
    #[error("no encryption key is configured; set ENCRYPTION_KEYS or ENCRYPTION_KEYS_FILE")]
    NoKey,
    /// Two keys have the same id, or an id is malformed.
    #[error("encryption key id `{0}` is given twice or is not 1 to 32 letters, digits, `_` or `-`")]
    BadKeyId(String),
    /// The value names a key that is not configured.
    #[error("the value was encrypted with key `{0}`, which is not among ENCRYPTION_KEYS; put that key back")]
    UnknownKey(String),
    /// The value is not of this format.
    #[error("the value was not encrypted by this program")]
    Malformed,
    /// The key's bytes differ, or the value was changed or moved from another row or column.
    #[error(
        "the value does not open with key `{0}`: the key's bytes differ, or the value was changed or moved"
    )]
    Rejected(String),
}

/// An AES-256 key and its id.
pub struct EncryptionKey {
    /// Id of the key. Every sealed value names it, so that keys can be rotated.
    pub id: String,
    /// The key.
    pub key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey({})", self.id)
    }
}

/// AES-256-GCM with several keys: the first one encrypts, every key decrypts. Cheap to clone.
///
/// A value is `1 ‖ len(id) ‖ id ‖ nonce(12) ‖ ciphertext and tag`. The associated data is the head (everything before
/// the nonce) and the caller's context (table, column and row; or message type and session). A value therefore opens
/// only in the context in which it was sealed.
#[derive(Clone)]
pub struct Cipher(Arc<Inner>);

struct Inner {
    active: String,
    keys: BTreeMap<String, Aes256Gcm>,
    entropy: Arc<dyn Entropy>,
}

/// A sealed value. Safe to log, store and dead-letter.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

const FORMAT: u8 = 1;
const NONCE: usize = 12;

impl Cipher {
    /// Creates a cipher. The first key encrypts.
    ///
    /// # Errors
    /// Fails when there is no key, or when an id is malformed or given twice.
    pub fn new(keys: Vec<EncryptionKey>, entropy: Arc<dyn Entropy>) -> Result<Self, CipherError> {
        let active = keys.first().ok_or(CipherError::NoKey)?.id.clone();
        let mut by_id = BTreeMap::new();
        for EncryptionKey { id, key } in keys {
            let well_formed = (1..=32).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
            if !well_formed || by_id.insert(id.clone(), cipher).is_some() {
                return Err(CipherError::BadKeyId(id));
            }
        }
        Ok(Self(Arc::new(Inner { active, keys: by_id, entropy })))
    }

    /// Encrypts with the first key.
    ///
    /// # Errors
    /// Fails for values above 64 GB only, which is a limit of the algorithm.
    pub fn seal(&self, context: &[&str], plaintext: &SecretString) -> Result<Sealed, CipherError> {
        let Inner { active, keys, entropy } = &*self.0;
        let cipher = keys.get(active).ok_or(CipherError::NoKey)?;
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce);
        let id_len = u8::try_from(active.len()).map_err(|_| CipherError::BadKeyId(active.clone()))?;
        let mut sealed = vec![FORMAT, id_len];
        sealed.extend_from_slice(active.as_bytes());
        let aad = associated_data(&sealed, context);
        sealed.extend_from_slice(&nonce);
        let payload = Payload { msg: plaintext.expose_secret().as_bytes(), aad: &aad };
        let ciphertext = cipher
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| CipherError::Rejected(active.clone()))?;
        sealed.extend_from_slice(&ciphertext);
        Ok(Sealed(sealed))
    }

    /// Decrypts with the key whose id is in the value.
    ///
    /// # Errors
    /// Fails when the key is unknown, or when the value is malformed, changed or moved.
    pub fn open(&self, context: &[&str], sealed: &[u8]) -> Result<SecretString, CipherError> {
        let (head, id, rest) = split_head(sealed)?;
        let cipher = self.0.keys.get(id).ok_or_else(|| CipherError::UnknownKey(id.to_owned()))?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().ok_or(CipherError::Malformed)?;
        let aad = associated_data(head, context);
        let plaintext = cipher
            .decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad: &aad })
            .map_err(|_| CipherError::Rejected(id.to_owned()))?;
        let plaintext = Zeroizing::new(plaintext);
        let text = std::str::from_utf8(&plaintext).map_err(|_| CipherError::Malformed)?;
        Ok(SecretString::from(text.to_owned()))
    }

    /// Encrypts a value again with the first key. `None`: it is sealed with the first key already, and opens.
    ///
    /// # Errors
    /// As [`Cipher::open`].
    pub fn reseal(&self, context: &[&str], sealed: &[u8]) -> Result<Option<Sealed>, CipherError> {
        let plaintext = self.open(context, sealed)?;
        if Self::key_id(sealed)? == self.0.active {
            return Ok(None);
        }
        self.seal(context, &plaintext).map(Some)
    }

    /// Returns the id of the key that encrypts.
    #[must_use]
    pub fn first_key(&self) -> &str {
        &self.0.active
    }

    /// Returns whether there is a key with this id.
    #[must_use]
    pub fn has_key(&self, id: &str) -> bool {
        self.0.keys.contains_key(id)
    }

    /// Returns the ids of all keys, sorted.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys.keys().map(String::as_str)
    }

    /// Returns the id of the key that a value was sealed with.
    ///
    /// # Errors
    /// Fails when the value is malformed.
    pub fn key_id(sealed: &[u8]) -> Result<&str, CipherError> {
        split_head(sealed).map(|(_, id, _)| id)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").field("active", &self.0.active).finish_non_exhaustive()
    }
}

impl Sealed {
    /// Encodes the value as URL-safe base64 without padding.
    #[must_use]
    pub fn to_text(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(&self.0)
    }
    /// Decodes the result of [`Sealed::to_text`].
    ///
    /// # Errors
    /// Fails when the text is not base64.
    pub fn from_text(text: &str) -> Result<Self, CipherError> {
        BASE64_URL_SAFE_NO_PAD.decode(text).map(Self).map_err(|_| CipherError::Malformed)
    }
}

fn split_head(sealed: &[u8]) -> Result<(&[u8], &str, &[u8]), CipherError> {
    let [FORMAT, id_len, ..] = sealed else { return Err(CipherError::Malformed) };
    let (head, rest) = sealed.split_at_checked(2 + usize::from(*id_len)).ok_or(CipherError::Malformed)?;
    let id = std::str::from_utf8(&head[2..]).map_err(|_| CipherError::Malformed)?;
    Ok((head, id, rest))
}

/// Returns the associated data: head, then each part of the context after its length. The lengths keep the contexts
/// `("ab", "c")` and `("a", "bc")` different.
fn associated_data(head: &[u8], context: &[&str]) -> Vec<u8> {
    let mut aad = head.to_vec();
    for part in context {
        aad.extend_from_slice(&(part.len() as u64).to_le_bytes());
        aad.extend_from_slice(part.as_bytes());
    }
    aad
}

#[cfg(test)]
mod tests {
    use larkauth_models::SeededEntropy;

    use super::*;

    fn key(id: &str, byte: u8) -> EncryptionKey {
        EncryptionKey { id: id.to_owned(), key: Zeroizing::new([byte; 32]) }
    }
    fn cipher(keys: Vec<EncryptionKey>) -> Cipher {
        Cipher::new(keys, Arc::new(SeededEntropy::new(7))).unwrap()
    }
    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[test]
    fn open_in_other_context_rejected() {
        let cipher = cipher(vec![key("a", 1)]);
        let sealed = cipher.seal(&["t", "c", "1"], &secret("hello")).unwrap();
        assert_eq!(cipher.open(&["t", "c", "1"], &sealed.0).unwrap().expose_secret(), "hello");
        for wrong in [&["t", "c", "2"][..], &["t", "d", "1"], &["tc", "", "1"], &["t", "c1"], &[]] {
            assert_eq!(cipher.open(wrong, &sealed.0).unwrap_err(), CipherError::Rejected("a".to_owned()));
        }
    }

    #[test]
    fn seal_same_text_twice_differs() {
        let cipher = cipher(vec![key("a", 1)]);
        assert_ne!(cipher.seal(&[], &secret("x")).unwrap(), cipher.seal(&[], &secret("x")).unwrap());
    }

    #[test]
    fn open_after_key_rotation_needs_old_key() {
        let old = cipher(vec![key("old", 1)]).seal(&["r"], &secret("x")).unwrap();
        let both = cipher(vec![key("new", 2), key("old", 1)]);
        assert_eq!(both.open(&["r"], &old.0).unwrap().expose_secret(), "x");
        assert_eq!(Cipher::key_id(&both.seal(&["r"], &secret("x")).unwrap().0).unwrap(), "new");
        let error = cipher(vec![key("new", 2)]).open(&["r"], &old.0).unwrap_err();
        assert_eq!(error, CipherError::UnknownKey("old".to_owned()));
    }

    #[test]
    fn reseal_changes_key_and_keeps_text() {
        let old = cipher(vec![key("old", 1)]).seal(&["r"], &secret("x")).unwrap();
        let both = cipher(vec![key("new", 2), key("old", 1)]);
        let new = both.reseal(&["r"], &old.0).unwrap().unwrap();
        assert_eq!(Cipher::key_id(&new.0).unwrap(), "new");
        assert_eq!(cipher(vec![key("new", 2)]).open(&["r"], &new.0).unwrap().expose_secret(), "x");
        assert_eq!(both.reseal(&["r"], &new.0).unwrap(), None);
        assert_eq!(both.reseal(&["other"], &old.0).unwrap_err(), CipherError::Rejected("old".to_owned()));
        assert_eq!(both.reseal(&["other"], &new.0).unwrap_err(), CipherError::Rejected("new".to_owned()));
        assert_eq!((both.first_key(), both.has_key("old"), both.has_key("x")), ("new", true, false));
        assert_eq!(both.key_ids().collect::<Vec<_>>(), ["new", "old"]);
    }

    #[test]
    fn open_changed_value_rejected() {
        let cipher = cipher(vec![key("a", 1)]);
        let sealed = cipher.seal(&["r"], &secret("hello")).unwrap().0;
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(cipher.open(&["r"], &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(cipher.open(&["r"], &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn new_without_key_or_with_duplicate_rejected() {
        assert!(matches!(Cipher::new(vec![], Arc::new(SeededEntropy::new(1))), Err(CipherError::NoKey)));
        let twice = Cipher::new(vec![key("a", 1), key("a", 2)], Arc::new(SeededEntropy::new(1)));
        assert!(matches!(twice, Err(CipherError::BadKeyId(id)) if id == "a"));
    }
}
