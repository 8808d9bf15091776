//! Dead letters: messages that no handler could handle.

use larkauth_messaging::{BusError, DeadLetter};
use larkauth_models::{Actor, AuditAction, EventId, Timestamp};

use crate::context::Context;

impl Context {
    /// Returns at most `limit` dead letters, oldest first.
    ///
    /// # Errors
    /// The bus's.
    pub async fn dead_letters(
        &self,
        actor: &Actor,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, BusError> {
        let letters = self.bus.dead_letters(limit).await;
        self.settle_read(actor, self.act(actor, now, AuditAction::DeadLetterList), letters)
    }

    /// Returns a dead letter to its queue. False when there is no such letter.
    ///
    /// # Errors
    /// [`BusError::Refused`] when no queue takes it; the bus's.
    pub async fn requeue_dead_letter(
        &self,
        actor: &Actor,
        now: Timestamp,
        id: &EventId,
    ) -> Result<bool, BusError> {
        let done = self.bus.requeue_dead_letter(id).await;
        self.settle_outside(self.act(actor, now, AuditAction::DeadLetterRequeue), done)
    }

    /// Drops a dead letter for good. False when there is no such letter.
    ///
    /// # Errors
    /// The bus's.
    pub async fn drop_dead_letter(
        &self,
        actor: &Actor,
        now: Timestamp,
        id: &EventId,
    ) -> Result<bool, BusError> {
        let done = self.bus.drop_dead_letter(id).await;
        self.settle_outside(self.act(actor, now, AuditAction::DeadLetterDrop), done)
    }

    /// Returns the number of dead letters.
    ///
    /// # Errors
    /// The bus's.
    pub async fn dead_letter_count(&self) -> Result<u64, BusError> {
        self.bus.dead_letter_depth().await
    }
}
