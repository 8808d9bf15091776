use larkauth_contracts::rest::AuditRecordView;
use larkauth_models::{Actor, AuditAction, Timestamp};
use larkauth_storage::{AuditCursor, AuditEntry, AuditFilter};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, error::AuthError};

/// Longest id that a filter names, in bytes.
const MAX_ID: usize = 256;
/// The end of the year 9999, which every database can hold. Evaluated at compile time, where it cannot fail.
const LATEST: Timestamp = Timestamp::from_timestamp(253_402_300_799, 0).unwrap();

impl Context {
    /// Returns at most `limit` audit records after the cursor, newest first. An actor that is restricted to applications
    /// sees the records about these.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] for an application that the actor does not see; the store's.
    pub async fn audit_records(
        &self,
        actor: &Actor,
        now: Timestamp,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, AuthError> {
        let mut act = self.act(actor, now, AuditAction::AuditList);
        act.app_id = filter.app_id.as_ref().map(ToString::to_string);
        let found = self.visible_records(actor, filter, after, limit).await;
        self.settle_read(actor, act, found)
    }

    async fn visible_records(
        &self,
        actor: &Actor,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, AuthError> {
        if let Some(app_id) = &filter.app_id {
            Self::check_app(actor, app_id)?;
        }
        for (name, id) in [("person", &filter.person), ("actor", &filter.actor)] {
            if id.as_ref().is_some_and(|id| id.len() > MAX_ID || id.contains(char::is_control)) {
                let rule = format!("{name}: an id of at most {MAX_ID} bytes without control characters");
                return Err(AuthError::Invalid(rule));
            }
        }
        // A database cannot hold every year that can be written.
        let bounded = |at: Timestamp| at.clamp(Timestamp::UNIX_EPOCH, LATEST);
        let (since, until) = (filter.since.map(bounded), filter.until.map(bounded));
        let app_ids = actor.access().map(|access| access.app_ids.clone()).unwrap_or_default();
        let filter = AuditFilter { app_ids, since, until, ..filter.clone() };
        Ok(self.store.list_audit(&filter, after, limit).await?)
    }

    /// Returns the number of audit records that wait for the database.
    #[must_use]
    pub fn audit_waiting(&self) -> usize {
        self.audit.waiting()
    }

    /// Writes queued audit records to the database, in batches, until `stopping`. What is queued after that is written by
    /// [`Context::close`].
    pub async fn write_audit(&self, stopping: CancellationToken) {
        while stopping.run_until_cancelled(self.audit.due()).await.is_some() {
            self.audit.write(&*self.store).await;
        }
    }

    /// Writes the queued audit records now, for [`Policy::audit`](crate::Policy::audit)`.drain` at most.
    pub async fn flush_audit(&self) {
        if tokio::time::timeout(self.policy.audit.drain, self.audit.write(&*self.store)).await.is_err() {
            tracing::error!(
                "auth.audit.flush: the database did not take the records in time, they are in the log only"
            );
        }
    }
}

/// Returns a record as the REST API and the command line show it.
#[must_use]
pub fn audit_view(entry: AuditEntry) -> AuditRecordView {
    AuditRecordView {
        id: entry.id,
        at: entry.at,
        actor_kind: entry.actor_kind,
        actor_id: entry.actor_id,
        actor_name: entry.actor_name,
        action: entry.action,
        app_id: entry.app_id,
        person: entry.person,
        session_id: entry.session_id,
        key_id: entry.key_id,
        address: entry.address,
        request_id: entry.request_id,
        trace_id: entry.trace_id,
        outcome: entry.outcome,
        reason: entry.reason,
        count: entry.count,
        encryption_key: entry.encryption_key,
    }
}
