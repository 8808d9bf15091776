//! Dead letters: messages that no handler could handle.

use larkauth_messaging::DeadLetter;
use larkauth_models::{Actor, AuditAction, EventId, Timestamp};

use crate::{context::Context, error::AuthError};

impl Context {
    /// Returns at most `limit` dead letters, oldest first.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] for an actor that is restricted to applications; the bus's.
    pub async fn dead_letters(
        &self,
        actor: &Actor,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, AuthError> {
        let letters = async {
            check_every_app(actor)?;
            Ok(self.bus.dead_letters(limit).await?)
        };
        self.settle_read(actor, self.act(actor, now, AuditAction::DeadLetterList), letters.await)
    }

    /// Returns a dead letter to its queue. False when there is no such letter.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] as [`Context::dead_letters`]; [`BusError::Refused`](larkauth_messaging::BusError::Refused) when
    /// no queue takes it; the bus's.
    pub async fn requeue_dead_letter(
        &self,
        actor: &Actor,
        now: Timestamp,
        id: &EventId,
    ) -> Result<bool, AuthError> {
        let done = async {
            check_every_app(actor)?;
            Ok(self.bus.requeue_dead_letter(id).await?)
        };
        self.settle_outside(self.act(actor, now, AuditAction::DeadLetterRequeue), done.await)
    }

    /// Drops a dead letter for good. False when there is no such letter.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] as [`Context::dead_letters`]; the bus's.
    pub async fn drop_dead_letter(
        &self,
        actor: &Actor,
        now: Timestamp,
        id: &EventId,
    ) -> Result<bool, AuthError> {
        let done = async {
            check_every_app(actor)?;
            Ok(self.bus.drop_dead_letter(id).await?)
        };
        self.settle_outside(self.act(actor, now, AuditAction::DeadLetterDrop), done.await)
    }

    /// Returns the number of dead letters.
    ///
    /// # Errors
    /// The bus's.
    pub async fn dead_letter_count(&self) -> Result<u64, AuthError> {
        Ok(self.bus.dead_letter_depth().await?)
    }
}

/// Refuses an actor that is restricted to applications: a dead letter may be of any one, or of none.
fn check_every_app(actor: &Actor) -> Result<(), AuthError> {
    match actor.access() {
        Some(access) if !access.app_ids.is_empty() => {
            Err(AuthError::Forbidden("Dead letters are for API keys of all applications".to_owned()))
        }
        _ => Ok(()),
    }
}
