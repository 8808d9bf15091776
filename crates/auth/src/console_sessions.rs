//! Logins of the operator console. A login is a sealed value that the browser keeps, so every gateway takes it; the store
//! holds only which logins were ended before their time.

use chrono::TimeDelta;
use larkauth_models::{
    Actor, AuditAction, EventId, ExposeSecret, IdError, SecretString, Timestamp, is_secret_token,
};
use larkauth_storage::Sealed;
use uuid::Uuid;

use crate::{context::Context, error::AuthError};

/// What the seal of a login is bound to, so that no other sealed value passes for one.
const PLACE: &str = "cookie.console_session";
/// Consumer under which ended logins are recorded. Such records are kept for 24 h at least.
const LOGOUT: &str = "console_logout";
/// Longest sealed login, in bytes.
const MAX_SEALED: usize = 1024;

/// A login of the operator console.
#[derive(Clone, Debug)]
pub struct ConsoleSession {
    /// Its id.
    pub id: Uuid,
    /// SHA-256 of the API key that logged in. The key is checked again with each request.
    pub key_sha256: [u8; 32],
    /// Value that every form of this login holds, and no other site knows.
    pub csrf_token: SecretString,
    /// Time of the login.
    pub started_at: Timestamp,
    /// Time of the last use that the sealed value records.
    pub used_at: Timestamp,
}

impl ConsoleSession {
    /// Longest life of a login: 8 h.
    pub const LIFE: TimeDelta = TimeDelta::hours(8);
    /// A login that is not used for so long ends: 30 min.
    pub const IDLE: TimeDelta = TimeDelta::minutes(30);

    /// Returns when the login ends, unless it is used before.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        (self.started_at + Self::LIFE).min(self.used_at + Self::IDLE)
    }

    fn to_text(&self) -> SecretString {
        SecretString::from(format!(
            "{} {} {} {} {}",
            self.id,
            hex::encode(self.key_sha256),
            self.csrf_token.expose_secret(),
            self.started_at.timestamp_micros(),
            self.used_at.timestamp_micros()
        ))
    }

    fn from_text(text: &SecretString) -> Option<Self> {
        let parts: Vec<&str> = text.expose_secret().split(' ').collect();
        let [id, key, csrf, started, used] = parts[..] else { return None };
        let mut key_sha256 = [0; 32];
        hex::decode_to_slice(key, &mut key_sha256).ok()?;
        let time = |micros: &str| Timestamp::from_timestamp_micros(micros.parse().ok()?);
        Some(Self {
            id: id.parse().ok()?,
            key_sha256,
            csrf_token: is_secret_token(csrf).then(|| SecretString::from(csrf.to_owned()))?,
            started_at: time(started)?,
            used_at: time(used)?,
        })
    }
}

impl Context {
    /// Logs the actor in, whose API key has this SHA-256.
    #[must_use]
    pub fn start_console_session(
        &self,
        actor: &Actor,
        now: Timestamp,
        key_sha256: [u8; 32],
    ) -> ConsoleSession {
        let session = ConsoleSession {
            id: self.new_uuid(),
            key_sha256,
            csrf_token: self.entropy.secret_token(),
            started_at: now,
            used_at: now,
        };
        self.note_act(self.act(actor, now, AuditAction::ConsoleLogin));
        session
    }

    /// Returns a login as the browser keeps it, used at `now`.
    ///
    /// # Errors
    /// The cipher's.
    pub fn seal_console_session(
        &self,
        now: Timestamp,
        session: &ConsoleSession,
    ) -> Result<SecretString, AuthError> {
        let used = ConsoleSession { used_at: now, ..session.clone() };
        Ok(SecretString::from(self.cipher.seal(&[PLACE], &used.to_text())?.to_text()))
    }

    /// Returns the login that a browser keeps. `None` when it is not one of this installation, or has ended. Takes no actor:
    /// the result identifies the caller.
    ///
    /// # Errors
    /// The store's.
    pub async fn console_session(
        &self,
        now: Timestamp,
        sealed: &str,
    ) -> Result<Option<ConsoleSession>, AuthError> {
        if sealed.len() > MAX_SEALED {
            return Ok(None);
        }
        let opened = Sealed::from_text(sealed).and_then(|sealed| self.cipher.open(&[PLACE], &sealed.0));
        let Some(session) = opened.ok().as_ref().and_then(ConsoleSession::from_text) else { return Ok(None) };
        if session.ends_at() <= now {
            return Ok(None);
        }
        let has_ended = self.store.is_processed(LOGOUT, &event_id(&session)?).await?;
        Ok((!has_ended).then_some(session))
    }

    /// Logs out: no copy of this login is accepted any more, by any gateway.
    ///
    /// # Errors
    /// The store's.
    pub async fn end_console_session(
        &self,
        actor: &Actor,
        now: Timestamp,
        session: &ConsoleSession,
    ) -> Result<(), AuthError> {
        let ended = async {
            self.store.mark_processed(LOGOUT, &event_id(session)?, now).await?;
            Ok(true)
        };
        self.settle_outside(self.act(actor, now, AuditAction::ConsoleLogout), ended.await).map(drop)
    }
}

fn event_id(session: &ConsoleSession) -> Result<EventId, AuthError> {
    EventId::new(session.id.to_string()).map_err(|error: IdError| AuthError::Invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use larkauth_models::{Entropy, OsEntropy};

    use super::*;

    fn session() -> ConsoleSession {
        ConsoleSession {
            id: Uuid::from_u128(7),
            key_sha256: [9; 32],
            csrf_token: OsEntropy.secret_token(),
            started_at: Timestamp::UNIX_EPOCH,
            used_at: Timestamp::UNIX_EPOCH + TimeDelta::seconds(5),
        }
    }

    #[test]
    fn from_text_of_to_text_round_trips_and_other_text_is_none() {
        let session = session();
        let text = session.to_text();
        let read = ConsoleSession::from_text(&text).unwrap();
        assert_eq!((read.id, read.key_sha256), (session.id, session.key_sha256));
        assert_eq!((read.started_at, read.used_at), (session.started_at, session.used_at));
        assert_eq!(read.csrf_token.expose_secret(), session.csrf_token.expose_secret());
        assert!(!format!("{session:?}").contains(session.csrf_token.expose_secret()));
        let text = text.expose_secret();
        for wrong in [&text[1..], text.rsplit_once(' ').unwrap().0, &format!("{text} 1"), "", "a b c d e"] {
            assert!(ConsoleSession::from_text(&SecretString::from(wrong.to_owned())).is_none(), "{wrong}");
        }
    }

    #[test]
    fn ends_at_is_the_earlier_of_idle_time_and_life() {
        let mut session = session();
        assert_eq!(session.ends_at(), session.used_at + ConsoleSession::IDLE);
        session.used_at = session.started_at + ConsoleSession::LIFE - TimeDelta::minutes(1);
        assert_eq!(session.ends_at(), session.started_at + ConsoleSession::LIFE);
    }
}
