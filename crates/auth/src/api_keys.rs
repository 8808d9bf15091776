//! Keys of the REST API.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use larkauth_models::{
    Actor, AppId, AuditAction, ExposeSecret, KeyAccess, KeyScope, SecretString, Timestamp, text::is_plain,
};
use larkauth_storage::{ApiKey, AuditEntry};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{context::Context, error::AuthError, seal, sessions::is_scope_name};

/// Prefix of every key, so that a scanner recognises a leaked one.
const PREFIX: &str = "lak_";
/// Characters of the random part: 32 bytes in base64url.
const RANDOM_LENGTH: usize = 43;
/// Bytes of the checksum, 6 characters in base64url.
const CHECKSUM_BYTES: usize = 4;
/// Longest name of a key, in characters.
pub const MAX_NAME: usize = 100;
/// Time for the record of a key's use: 250 ms.
const TOUCH_TIMEOUT: Duration = Duration::from_millis(250);
/// Shortest time between two records of a key's use.
const A_MINUTE: TimeDelta = TimeDelta::minutes(1);
/// Most applications, and most scopes of Lark, that one key lists.
const MAX_LIST: usize = 100;

/// A key to create.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// What the key is for.
    pub name: String,
    /// Operations that the key permits.
    pub scopes: Vec<KeyScope>,
    /// Applications that the key sees; all when empty.
    pub app_ids: Vec<AppId>,
    /// Scopes of Lark that sessions of the key may ask for; all when empty.
    pub lark_scopes: Vec<String>,
    /// Most requests in a minute, counted by each gateway.
    pub requests_per_minute: Option<NonZeroU32>,
    /// End of the key's life.
    pub expires_at: Option<Timestamp>,
}

/// A new key with its secret, which is not stored and cannot be shown again.
#[derive(Clone, Debug)]
pub struct CreatedApiKey {
    /// As stored.
    pub key: ApiKey,
    /// The secret that callers send.
    pub secret: SecretString,
}

impl Context {
    /// Creates a key and stores its hash.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] when the name is empty, has more than [`MAX_NAME`] characters or holds a control
    /// character, when a list is too long or the end is past; the store's.
    pub async fn create_api_key(
        &self,
        actor: &Actor,
        now: Timestamp,
        new: NewApiKey,
    ) -> Result<CreatedApiKey, AuthError> {
        let id = self.new_uuid();
        let act = self.act(actor, now, AuditAction::KeyCreate).key(id);
        let created = self.store_new_key(id, now, new, &act).await;
        self.settle_change(act, created, |_| true)
    }

    async fn store_new_key(
        &self,
        id: Uuid,
        now: Timestamp,
        new: NewApiKey,
        act: &AuditEntry,
    ) -> Result<CreatedApiKey, AuthError> {
        check(&new, now)?;
        let mut scopes = new.scopes;
        scopes.sort_unstable_by_key(|scope| scope.as_str());
        scopes.dedup();
        let key = ApiKey {
            id,
            name: new.name.trim().to_owned(),
            scopes: scopes.iter().map(KeyScope::to_string).collect(),
            access: KeyAccess {
                app_ids: new.app_ids.iter().map(AppId::to_string).collect(),
                lark_scopes: new.lark_scopes,
            },
            requests_per_minute: new.requests_per_minute,
            created_at: now,
            revoked_at: None,
            expires_at: new.expires_at,
            last_used_at: None,
        };
        let secret = self.new_secret();
        self.store.put_api_key(&key, &seal::sha256(secret.expose_secret()), act).await?;
        Ok(CreatedApiKey { key, secret })
    }

    /// Creates a key like the key `id` and ends that one at `until`, so that callers have time to change over. Returns
    /// `None` when no such key is active.
    ///
    /// # Errors
    /// The store's.
    pub async fn rotate_api_key(
        &self,
        actor: &Actor,
        now: Timestamp,
        id: Uuid,
        until: Timestamp,
    ) -> Result<Option<CreatedApiKey>, AuthError> {
        let act = self.act(actor, now, AuditAction::KeyRotate).key(id);
        let created = self.store_successor(id, now, until, &act).await;
        self.reads.api_keys.clear();
        self.settle_change(act, created, Option::is_some)
    }

    async fn store_successor(
        &self,
        id: Uuid,
        now: Timestamp,
        until: Timestamp,
        act: &AuditEntry,
    ) -> Result<Option<CreatedApiKey>, AuthError> {
        let Some(key) = self.store.api_keys().await?.into_iter().find(|key| key.id == id) else {
            return Ok(None);
        };
        let successor = ApiKey { id: self.new_uuid(), created_at: now, last_used_at: None, ..key };
        let secret = self.new_secret();
        let sha256 = seal::sha256(secret.expose_secret());
        let done = self.store.rotate_api_key(id, until, &successor, &sha256, act).await?;
        Ok(done.then_some(CreatedApiKey { key: successor, secret }))
    }

    /// Returns all keys, oldest first. Their secrets are not stored.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_keys(&self, actor: &Actor, now: Timestamp) -> Result<Vec<ApiKey>, AuthError> {
        let keys = self.store.api_keys().await.map_err(AuthError::from);
        self.settle_read(actor, self.act(actor, now, AuditAction::KeyList), keys)
    }

    /// Revokes a key. Returns false when no such key is active.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoke_api_key(&self, actor: &Actor, now: Timestamp, id: Uuid) -> Result<bool, AuthError> {
        let act = self.act(actor, now, AuditAction::KeyRevoke).key(id);
        let revoked = self.store.revoke_api_key(id, &act).await.map_err(AuthError::from);
        self.reads.api_keys.clear();
        self.settle_change(act, revoked, |revoked| *revoked)
    }

    /// Returns the active key with this SHA-256 if it is in memory. Waits for nothing.
    #[must_use]
    pub fn kept_api_key(&self, sha256: &[u8; 32]) -> Option<Arc<ApiKey>> {
        self.reads.api_keys.get(sha256).filter(|key| key.is_active(self.now()))
    }

    /// Returns the key with this SHA-256 unless it is revoked or expired, and records its use. Takes no actor: the result
    /// identifies the caller. The answer may be as old as [`Policy::read_staleness`](crate::Policy::read_staleness).
    ///
    /// # Errors
    /// The store's.
    pub async fn authenticate_api_key(&self, sha256: &[u8; 32]) -> Result<Option<Arc<ApiKey>>, AuthError> {
        let fetch = || async {
            let Some(key) = self.store.api_key(sha256).await?.map(Arc::new) else { return Ok(None) };
            self.touch_api_key(&key).await;
            Ok::<_, AuthError>(Some(key))
        };
        let key = self.reads.api_keys.read(sha256, fetch, |_, _| false).await?;
        // A key that is kept may have expired since.
        Ok(key.filter(|key| key.is_active(self.now())))
    }

    /// Checks after a wait that the caller's key is still in force, has this scope and sees this application.
    ///
    /// # Errors
    /// [`AuthError::KeyRefused`]; [`AuthError::Forbidden`] for a key that permits less than before; the store's.
    pub(crate) async fn check_key(
        &self,
        actor: &Actor,
        scope: KeyScope,
        app_id: &AppId,
    ) -> Result<(), AuthError> {
        let Some(id) = actor.stored_key() else { return Ok(()) };
        let key = self.store.api_key_by_id(id).await?.filter(|key| key.is_active(self.now()));
        let key = key.ok_or(AuthError::KeyRefused)?;
        if scope.is_among(&key.scopes) && key.access.may_use_app(app_id) {
            return Ok(());
        }
        Err(AuthError::Forbidden(format!("The API key has lost the scope `{scope}` or application {app_id}")))
    }

    /// Records the use of a key, unless one was recorded within the last minute.
    async fn touch_api_key(&self, key: &ApiKey) {
        let now = self.now();
        if !key.is_active(now) || key.last_used_at.is_some_and(|last| now - last < A_MINUTE) {
            return;
        }
        // A store that reads but does not write must neither refuse callers nor delay them.
        match timeout(TOUCH_TIMEOUT, self.store.touch_api_key(key.id, now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(key_id = %key.id, %error, "auth.api_key.touch: the time of use is not recorded");
            }
            Err(_) => {
                tracing::debug!(key_id = %key.id, "auth.api_key.touch: the store does not write in time");
            }
        }
    }

    fn new_secret(&self) -> SecretString {
        let random = format!("{PREFIX}{}", self.entropy.secret_token().expose_secret());
        SecretString::from(format!("{random}{}", checksum(&random)))
    }
}

fn check(new: &NewApiKey, now: Timestamp) -> Result<(), AuthError> {
    let invalid = |message: String| Err(AuthError::Invalid(message));
    if !is_valid_name(&new.name) {
        return invalid(format!("name: 1 to {MAX_NAME} characters on one line that say what the key is for"));
    }
    if new.app_ids.len() > MAX_LIST || new.lark_scopes.len() > MAX_LIST {
        return invalid(format!("a key lists at most {MAX_LIST} applications and {MAX_LIST} scopes of Lark"));
    }
    // A key is compared with the scopes of sessions: it can list none that a session cannot ask for.
    if let Some(scope) = new.lark_scopes.iter().find(|scope| !is_scope_name(scope)) {
        return invalid(format!(
            "{scope:?} is not the name of a scope of Lark (letters, digits and `_:.-/`, at most 128)"
        ));
    }
    if new.expires_at.is_some_and(|end| end <= now) {
        return invalid("the end of the key's life is in the past".to_owned());
    }
    Ok(())
}

/// Returns whether a key may have this name.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= MAX_NAME && name.chars().all(is_plain)
}

/// Returns whether a caller's key can be a stored one. A mistyped or made-up key fails here, without a query.
///
/// Keys of 47 characters were created before keys had a checksum.
#[must_use]
pub fn is_well_formed(secret: &str) -> bool {
    let Some(random) = secret.strip_prefix(PREFIX) else { return false };
    if !random.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return false;
    }
    match random.len().checked_sub(RANDOM_LENGTH) {
        Some(0) => true,
        Some(_) => {
            let (random, sum) = secret.split_at(PREFIX.len() + RANDOM_LENGTH);
            sum == checksum(random)
        }
        None => false,
    }
}

/// Returns the check characters of a key: no secret, since they follow from the rest of the key.
fn checksum(random: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(&seal::sha256(random)[..CHECKSUM_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_one_short_line() {
        assert!(is_valid_name("crm") && is_valid_name(&"名".repeat(MAX_NAME)));
        for name in ["", " ", "a\nb", "gnp.\u{202e}exe", &"n".repeat(MAX_NAME + 1)] {
            assert!(!is_valid_name(name), "{name:?}");
        }
    }

    #[test]
    fn is_well_formed_wrong_character_or_length_is_false() {
        let random = format!("{PREFIX}{}", "a-_Z".repeat(11).split_at(RANDOM_LENGTH).0);
        let key = format!("{random}{}", checksum(&random));
        assert!(is_well_formed(&key) && is_well_formed(&random));
        for at in 0..key.len() {
            let mut changed = key.clone().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            assert!(!is_well_formed(std::str::from_utf8(&changed).unwrap()), "{at}");
        }
        for nonsense in [
            "",
            "lak_",
            "lak_x",
            "a-bootstrap-api-key",
            &key[1..],
            &format!("{key}x"),
            &format!("{random} "),
            "lak_éé",
        ] {
            assert!(!is_well_formed(nonsense), "{nonsense}");
        }
    }
}
