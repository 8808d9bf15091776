//! What is stored about one person.

use larkauth_models::{Actor, AppId, AuditAction, OpenId, Timestamp};
use larkauth_storage::Erased;

use crate::{context::Context, error::AuthError};

pub use larkauth_storage::pseudonym;

/// What [`Context::erase_person`] removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasedPerson {
    /// Rows that were deleted.
    pub rows: Erased,
    /// Audit records in which the person's ids were replaced.
    pub records: u64,
    /// What the audit log has in place of the person's ids.
    pub pseudonym: String,
}

impl ErasedPerson {
    /// Returns whether nothing was stored about the person.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.rows == Erased::default() && self.records == 0
    }
}

impl Context {
    /// Erases what is stored about a person, as one application sees them: sessions of any state, token and profile are
    /// deleted, and a pseudonym replaces the person's ids in the audit log. That an erasure was done is recorded under the
    /// pseudonym. The same call again continues one that was interrupted.
    ///
    /// # Errors
    /// The store's.
    pub async fn erase_person(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<ErasedPerson, AuthError> {
        let pseudonym = pseudonym(app_id, open_id);
        let mut act = self.act(actor, now, AuditAction::PersonErase).app(app_id);
        act.person = Some(pseudonym.clone());
        let erased = async {
            Self::check_app(actor, app_id)?;
            // Records of reads of this process may still wait.
            self.flush_audit().await;
            let ids = self.store.person_ids(app_id, open_id).await?;
            // The user ids are known as long as the rows are there, so the records come first.
            let mut records = self.replace_in_audit(app_id, &ids, &pseudonym).await?;
            let rows = self.store.erase_person(app_id, open_id, &act).await?;
            records += self.replace_in_audit(app_id, &ids, &pseudonym).await?;
            Ok(ErasedPerson { rows, records, pseudonym })
        };
        let erased = erased.await;
        self.reads.tokens.forget(open_id.as_str());
        self.settle_change(act, erased, |_| true)
    }

    async fn replace_in_audit(
        &self,
        app_id: &AppId,
        ids: &[String],
        pseudonym: &str,
    ) -> Result<u64, AuthError> {
        let mut replaced = 0;
        loop {
            let some = self.store.pseudonymize_audit(app_id, ids, pseudonym, self.policy.sweep_batch).await?;
            replaced += some;
            if some == 0 {
                return Ok(replaced);
            }
        }
    }
}
