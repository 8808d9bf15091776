//! The key that a process encrypts with, and the keys that it lacks.
//!
//! A noted key makes every process without it not ready. So a key is noted before the first value is encrypted with it, and only
//! by a process whose keys open what is stored.

use std::{sync::Arc, time::Duration};

use larkauth_models::UnreadableSecret;
use larkauth_storage::{Registration, StorageError};

use crate::{context::Context, error::AuthError};

/// How long a look at the keys in use is good enough for an invitation: 10 s.
const LOOK_TTL: Duration = Duration::from_secs(10);
/// Time after which an invitation notes the key again: 30 s, the interval in which the store writes it.
const NOTE_TTL: Duration = Duration::from_secs(30);
/// Time between two reports about values of one key that do not open: 10 min.
const REPORT_INTERVAL: Duration = Duration::from_secs(600);

/// Fails when the keys of this process open none of the stored applications: they are those of another database, under which
/// everything would fail one by one.
///
/// # Errors
/// [`AuthError::ForeignEncryptionKeys`].
pub fn check_keys_open(stored: &[Registration]) -> Result<(), AuthError> {
    let errors = stored.iter().filter_map(|listed| listed.application.as_ref().err());
    let closed: Vec<_> = errors.filter(|error| matches!(error, StorageError::Undecryptable { .. })).collect();
    match closed.first() {
        Some(first) if closed.len() == stored.len() => {
            Err(AuthError::ForeignEncryptionKeys(first.to_string()))
        }
        _ => Ok(()),
    }
}

impl Context {
    /// Returns the ids of the keys that stored values may need and this process does not have. Writes nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn look_at_encryption_keys(&self) -> Result<Arc<[String]>, AuthError> {
        let uses = self.store.key_uses().await?.into_iter().map(|known| known.key_id);
        let missing: Arc<[String]> = uses.filter(|id| !self.cipher.has_key(id)).collect();
        self.metrics.encryption_keys_missing(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        self.keys.see(missing.clone());
        Ok(missing)
    }

    /// Notes that this process encrypts with its first key. For a process that serves, after its start checks.
    pub async fn note_encryption_key(&self) {
        match self.store.note_key_use(self.cipher.first_key()).await {
            Ok(()) => self.keys.note(),
            // A database that takes no writes holds no new values either.
            Err(error) => tracing::debug!(%error, "auth.encryption_keys.note"),
        }
    }

    /// Refuses to go on while stored values may need a key that this process does not have. Notes the key of this process,
    /// unless that was done a short time ago: what follows encrypts.
    pub(crate) async fn check_encryption_keys(&self) -> Result<(), AuthError> {
        let missing = match self.keys.recent(LOOK_TTL) {
            Some(missing) => missing,
            None => self.look_at_encryption_keys().await?,
        };
        if !missing.is_empty() {
            return Err(AuthError::EncryptionKeyMissing { key_ids: missing.to_vec() });
        }
        if !self.keys.is_noted(NOTE_TTL) {
            check_keys_open(&self.store.applications().await?)?;
            self.note_encryption_key().await;
        }
        Ok(())
    }

    /// Refuses to go on while a running process encrypts with a key that this process does not have: the running one could not
    /// read what this one encrypts. Keys that no process uses may be lost, and do not matter.
    pub(crate) async fn check_keys_of_processes(&self) -> Result<(), AuthError> {
        let in_use = self.other_keys_in_use().await?;
        let key_ids: Vec<String> = in_use.into_iter().filter(|id| !self.cipher.has_key(id)).collect();
        if key_ids.is_empty() { Ok(()) } else { Err(AuthError::EncryptionKeyMissing { key_ids }) }
    }

    /// Logs that a secret of a token cannot be read, once in a while for each key.
    pub(crate) fn report_unreadable(&self, why: &UnreadableSecret) {
        let key_id = why.key_id.as_deref().unwrap_or_default();
        if self.keys.is_to_report(key_id, REPORT_INTERVAL) {
            tracing::error!(
                key_id,
                column = why.column,
                reason = why.reason,
                "auth.token.unreadable: such tokens are not refreshed until the key is back in ENCRYPTION_KEYS"
            );
        }
    }
}
