//! The record of a backup. The copy itself is the database's work.

use larkauth_models::{Actor, AuditAction, Timestamp};

use crate::{context::Context, error::AuthError};

impl Context {
    /// Records that an operator begins to copy the database, so that the copy holds the record, too.
    ///
    /// # Errors
    /// The store's: the record is then a log line only, and the copy may be made all the same.
    pub async fn note_backup(&self, actor: &Actor, now: Timestamp) -> Result<(), AuthError> {
        let act = self.act(actor, now, AuditAction::DatabaseBackup);
        let appended = self.store.append_audit(std::slice::from_ref(&act)).await;
        self.settle_change(act, appended.map_err(AuthError::from), |()| true)
    }
}
