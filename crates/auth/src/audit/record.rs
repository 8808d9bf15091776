use larkauth_models::{Actor, AuditAction, AuditOutcome, KeyScope, Timestamp};
use larkauth_storage::AuditEntry;
use larkauth_telemetry::propagation;

use super::reason::AuditReason;
use crate::{audit_log::log, context::Context};

/// Reason of a change that found nothing to change.
const NOT_FOUND: &str = "not_found";

impl Context {
    /// Begins the record of an act. The operation adds what it is about.
    pub(crate) fn act(&self, actor: &Actor, now: Timestamp, action: AuditAction) -> AuditEntry {
        let mut entry = AuditEntry::new(self.new_uuid(), actor, now, action);
        entry.trace_id = propagation::current_trace_id();
        entry
    }

    /// Records a read with its result. What a service reads for its own work is not recorded: it shows nothing to a caller.
    pub(crate) fn settle_read<T, E: AuditReason>(
        &self,
        actor: &Actor,
        act: AuditEntry,
        result: Result<T, E>,
    ) -> Result<T, E> {
        if !actor.is_service() {
            self.record(match &result {
                Ok(_) => act,
                Err(error) => not_done(act, error),
            });
        }
        result
    }

    /// Records a read as [`Context::settle_read`] does. Equal reads that follow it are counted in its record.
    pub(crate) fn settle_repeatable<T, E: AuditReason>(
        &self,
        actor: &Actor,
        act: AuditEntry,
        result: Result<T, E>,
    ) -> Result<T, E> {
        if actor.is_service() || result.is_err() {
            return self.settle_read(actor, act, result);
        }
        log(&act);
        self.audit.open(act);
        result
    }

    /// Records a change whose record the store has written with it, or the reason why there was none. `is_done` says of a
    /// result whether something changed.
    pub(crate) fn settle_change<T, E: AuditReason>(
        &self,
        act: AuditEntry,
        result: Result<T, E>,
        is_done: impl FnOnce(&T) -> bool,
    ) -> Result<T, E> {
        match &result {
            Ok(done) if is_done(done) => log(&act),
            Ok(_) => self.record(act.not_done(AuditOutcome::Refused, NOT_FOUND)),
            Err(error) => self.record(not_done(act, error)),
        }
        result
    }

    /// Records a change of something outside of the store, which therefore writes no record with it.
    pub(crate) fn settle_outside<E: AuditReason>(
        &self,
        act: AuditEntry,
        result: Result<bool, E>,
    ) -> Result<bool, E> {
        self.record(match &result {
            Ok(true) => act,
            Ok(false) => act.not_done(AuditOutcome::Refused, NOT_FOUND),
            Err(error) => not_done(act, error),
        });
        result
    }

    /// Records an act that changes nothing in the store.
    pub(crate) fn note_act(&self, act: AuditEntry) {
        self.record(act);
    }

    /// Records that an act was refused, for a reason of its own.
    pub(crate) fn note_refused(&self, act: AuditEntry, reason: &str) {
        self.record(act.not_done(AuditOutcome::Refused, reason));
    }

    /// Logs a change whose record the store has written with it.
    pub(crate) fn note_done(&self, act: &AuditEntry) {
        log(act);
    }

    /// Records that a request was refused before any operation, because its key lacks a scope.
    pub fn note_denied(&self, actor: &Actor, now: Timestamp, scope: KeyScope) {
        let reason = format!("insufficient_scope:{scope}");
        self.record(self.act(actor, now, AuditAction::RequestDeny).not_done(AuditOutcome::Refused, &reason));
    }

    /// Logs a record at once and queues it for the database.
    fn record(&self, entry: AuditEntry) {
        log(&entry);
        self.audit.push(entry);
    }
}

fn not_done(act: AuditEntry, error: &impl AuditReason) -> AuditEntry {
    let (outcome, reason) = error.audit_reason();
    act.not_done(outcome, reason)
}
