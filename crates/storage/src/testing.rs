//! Ciphers and authorizations with fixed values, for the tests of the stores and of the crates above.

mod authorization;

use std::sync::Arc;

use larkauth_models::{Actor, AuditAction, Entropy, OsEntropy, SystemClock, Timestamp};
use zeroize::Zeroizing;

pub use self::authorization::{NEEDLES, TestAuthorization};
use crate::{AuditEntry, Cipher, EncryptionKey};

/// Returns a cipher with one fixed key, `test`. Every such cipher opens the values of the others.
#[must_use]
pub fn test_cipher() -> Cipher {
    cipher_of(&[("test", 7)])
}

/// Returns a cipher with the given keys, each of one repeated byte. The first key encrypts.
#[must_use]
pub fn cipher_of(keys: &[(&str, u8)]) -> Cipher {
    let keys = keys
        .iter()
        .map(|(id, byte)| EncryptionKey { id: (*id).to_owned(), key: Zeroizing::new([*byte; 32]) });
    Cipher::new(keys.collect(), Arc::new(OsEntropy)).unwrap()
}

/// Returns the record of an act at a time, by the service `test`, for a change whose record a test does not look at.
#[must_use]
pub fn act(at: Timestamp) -> AuditEntry {
    AuditEntry::new(OsEntropy.uuid(&SystemClock), &Actor::service("test"), at, AuditAction::AppRegister)
}
