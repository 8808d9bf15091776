//! Keys of the REST API.

use larkauth_models::{Actor, ExposeSecret, KeyScope, SecretString, Timestamp, is_secret_token};
use larkauth_storage::ApiKey;
use uuid::Uuid;

use crate::{context::Context, error::AuthError, seal};

/// Prefix of every key, so that a scanner recognises a leaked one.
const PREFIX: &str = "lak_";
/// Longest name of a key, in characters.
pub const MAX_NAME: usize = 100;

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
    /// character; the store's.
    pub async fn create_api_key(
        &self,
        actor: &Actor,
        now: Timestamp,
        name: &str,
        mut scopes: Vec<KeyScope>,
    ) -> Result<CreatedApiKey, AuthError> {
        self.note_operation(actor, now, "api_key.create");
        if !is_valid_name(name) {
            let message =
                format!("name: 1 to {MAX_NAME} characters on one line that say what the key is for");
            return Err(AuthError::Invalid(message));
        }
        let secret = SecretString::from(format!("{PREFIX}{}", self.entropy.secret_token().expose_secret()));
        scopes.sort_unstable_by_key(|scope| scope.as_str());
        scopes.dedup();
        let key = ApiKey {
            id: self.new_uuid(),
            name: name.trim().to_owned(),
            scopes: scopes.iter().map(KeyScope::to_string).collect(),
            created_at: now,
            revoked_at: None,
        };
        self.store.put_api_key(&key, &seal::sha256(secret.expose_secret())).await?;
        Ok(CreatedApiKey { key, secret })
    }

    /// Returns all keys, oldest first. Their secrets are not stored.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_keys(&self, actor: &Actor, now: Timestamp) -> Result<Vec<ApiKey>, AuthError> {
        self.note_operation(actor, now, "api_key.list");
        Ok(self.store.api_keys().await?)
    }

    /// Revokes a key. Returns false when no such key is active.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoke_api_key(&self, actor: &Actor, now: Timestamp, id: Uuid) -> Result<bool, AuthError> {
        self.note_operation(actor, now, "api_key.revoke");
        Ok(self.store.revoke_api_key(id, now).await?)
    }

    /// Returns the active key with this SHA-256. Takes no actor: the result identifies the caller.
    ///
    /// # Errors
    /// The store's.
    pub async fn authenticate_api_key(&self, sha256: &[u8; 32]) -> Result<Option<ApiKey>, AuthError> {
        Ok(self.store.api_key(sha256).await?)
    }
}

/// Returns whether a secret has the form of a key that [`Context::create_api_key`] makes.
#[must_use]
pub fn has_key_form(secret: &str) -> bool {
    secret.strip_prefix(PREFIX).is_some_and(is_secret_token)
}

/// Returns whether a key may have this name.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_key_form_other_texts_are_refused() {
        let token = "0123456789abcdefABCDEF-_0123456789abcdefABC";
        assert!(has_key_form(&format!("lak_{token}")));
        for other in [
            "",
            "lak_",
            token,
            &format!("lak_{token}x"),
            &format!("LAK_{token}"),
            &format!("lak_{}+", &token[1..]),
        ] {
            assert!(!has_key_form(other), "{other}");
        }
    }

    #[test]
    fn name_is_one_short_line() {
        assert!(is_valid_name("crm") && is_valid_name(&"名".repeat(MAX_NAME)));
        for name in ["", " ", "a\nb", &"n".repeat(MAX_NAME + 1)] {
            assert!(!is_valid_name(name), "{name:?}");
        }
    }
}
