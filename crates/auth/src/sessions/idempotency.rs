use std::{fmt, str::FromStr};

use larkauth_models::{Actor, Principal, SessionId};

use crate::{error::AuthError, seal};

/// Longest key, in bytes.
const MAX_LENGTH: usize = 255;

/// The `Idempotency-Key` of a caller: 1 to 255 visible ASCII characters.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Returns the session that the key of this caller names. Keys of two callers never meet.
    pub(crate) fn session_id(&self, actor: &Actor) -> SessionId {
        let caller = match &actor.principal {
            Principal::ApiKey { id, .. } => format!("key {id}"),
            Principal::Operator { name } => format!("operator {name}"),
            Principal::Service(name) => format!("service {name}"),
            Principal::Person { app_id, open_id } => format!("person {app_id} {open_id}"),
        };
        session_id_of(&["idempotency", &caller, &self.0])
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

impl FromStr for IdempotencyKey {
    type Err = AuthError;

    fn from_str(text: &str) -> Result<Self, AuthError> {
        if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(AuthError::Invalid(format!(
                "Idempotency-Key: 1 to {MAX_LENGTH} visible ASCII characters, for example a UUID"
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Returns a session id that these parts alone determine.
pub(crate) fn session_id_of(parts: &[&str]) -> SessionId {
    let digest = seal::digest(parts);
    let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest;
    SessionId(uuid::Builder::from_custom_bytes(head).into_uuid())
}
