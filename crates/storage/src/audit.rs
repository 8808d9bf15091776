use async_trait::async_trait;
use larkauth_models::{
    Actor, AppId, AuditAction, AuditOutcome, OpenId, Person, SessionId, Timestamp, UserId,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::Result;

/// Longest value of a text column, in characters. Names and ids are shorter; a longer one is cut.
const MAX_TEXT: usize = 200;

/// One record of the audit log: who did what, to what, when, from where, with which result. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Id of the record.
    pub id: Uuid,
    /// Time of the act. A change that is written with the record has the same time.
    pub at: Timestamp,
    /// `api_key`, `operator`, `service` or `person`.
    pub actor_kind: String,
    /// Id of the API key, account of the operator, name of the service, or open id of the person.
    pub actor_id: String,
    /// Name of the API key.
    pub actor_name: Option<String>,
    /// The spelling of an [`AuditAction`], or of one that a later version adds.
    pub action: String,
    /// The application concerned.
    pub app_id: Option<String>,
    /// Open id of the person concerned, or the user id of a person whose open id is not known.
    pub person: Option<String>,
    /// The session concerned.
    pub session_id: Option<Uuid>,
    /// The API key concerned.
    pub key_id: Option<Uuid>,
    /// The client's address, or the host of an operator.
    pub address: Option<String>,
    /// Id of the HTTP request or of the event.
    pub request_id: Option<String>,
    /// Id of the trace.
    pub trace_id: Option<String>,
    /// The spelling of an [`AuditOutcome`].
    pub outcome: String,
    /// Code of the reason, unless the outcome is `ok`.
    pub reason: Option<String>,
    /// Number of equal acts that the record stands for, this one and those that followed within a second; 1 for all but reads
    /// of a token.
    pub count: i32,
    /// Id of the encryption key concerned.
    pub encryption_key: Option<String>,
}

impl AuditEntry {
    /// Creates the record of an act that is done.
    #[must_use]
    pub fn new(id: Uuid, actor: &Actor, at: Timestamp, action: AuditAction) -> Self {
        let actor_name = match &actor.principal {
            larkauth_models::Principal::ApiKey { name, .. } => Some(text(name)),
            _ => None,
        };
        Self {
            id,
            at,
            actor_kind: actor.principal.kind().to_owned(),
            actor_id: text(&actor.principal.id()),
            actor_name,
            action: action.as_str().to_owned(),
            app_id: None,
            person: None,
            session_id: None,
            key_id: None,
            address: actor.origin.address.as_deref().map(text),
            request_id: actor.origin.request_id.as_deref().map(text),
            trace_id: None,
            outcome: AuditOutcome::Ok.as_str().to_owned(),
            reason: None,
            count: 1,
            encryption_key: None,
        }
    }

    /// Names the application concerned.
    #[must_use]
    pub fn app(mut self, app_id: &AppId) -> Self {
        self.app_id = Some(app_id.to_string());
        self
    }

    /// Names the person concerned.
    #[must_use]
    pub fn open_id(mut self, open_id: &OpenId) -> Self {
        self.person = Some(open_id.to_string());
        self
    }

    /// Names the person concerned by the open id, or else by the user id.
    #[must_use]
    pub fn person(mut self, person: &Person) -> Self {
        let user_id = person.user_id.as_ref().map(UserId::to_string);
        self.person = person.open_id.as_ref().map(OpenId::to_string).or(user_id);
        self
    }

    /// Names the session concerned.
    #[must_use]
    pub fn session(mut self, id: SessionId) -> Self {
        self.session_id = Some(id.0);
        self
    }

    /// Names the encryption key concerned.
    #[must_use]
    pub fn encryption_key(mut self, id: &str) -> Self {
        self.encryption_key = Some(text(id));
        self
    }

    /// Names the API key concerned.
    #[must_use]
    pub fn key(mut self, id: Uuid) -> Self {
        self.key_id = Some(id);
        self
    }

    /// Says that the act was not done, and why.
    #[must_use]
    pub fn not_done(mut self, outcome: AuditOutcome, reason: &str) -> Self {
        outcome.as_str().clone_into(&mut self.outcome);
        self.reason = Some(text(reason));
        self
    }
}

/// Returns a text as a record holds it: bounded, and without the control characters that would forge a line.
fn text(value: &str) -> String {
    value.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns what replaces the ids of an erased person in the audit log. The same person always has the same pseudonym, so
/// that a caller who knows the open id can find the records; the open id cannot be computed from it.
#[must_use]
pub fn pseudonym(app_id: &AppId, open_id: &OpenId) -> String {
    let digest = Sha256::new_with_prefix(b"larkauth audit pseudonym\0")
        .chain_update(app_id.as_str())
        .chain_update(b"/")
        .chain_update(open_id.as_str())
        .finalize();
    format!("erased:{}", hex::encode(&digest[..16]))
}

/// Filter of a list of audit records. An empty filter selects all.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Selects records about this application.
    pub app_id: Option<AppId>,
    /// Selects records about these applications; all when empty.
    pub app_ids: Vec<String>,
    /// Selects records about this person.
    pub person: Option<String>,
    /// Selects records of the actor with this id.
    pub actor: Option<String>,
    /// Selects records of this action.
    pub action: Option<AuditAction>,
    /// Selects records from this time on.
    pub since: Option<Timestamp>,
    /// Selects records before this time.
    pub until: Option<Timestamp>,
}

/// Last record of the previous page of [`Audit::list_audit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    /// Time of that record.
    pub at: Timestamp,
    /// Id of that record, which orders records of the same microsecond.
    pub id: Uuid,
}

/// The audit log. Records are added with the change that they are about, or by [`Audit::append_audit`]; they are never
/// changed, except that the ids of an erased person are replaced by a pseudonym.
#[async_trait]
pub trait Audit {
    /// Adds records of acts that changed nothing in this database, in one transaction. A record that exists is skipped, so
    /// a call whose answer was lost can be repeated.
    async fn append_audit(&self, entries: &[AuditEntry]) -> Result<()>;
    /// Lists at most `limit` records after the cursor, newest first.
    async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>>;
    /// Replaces the ids of a person by a pseudonym, in at most `limit` records about the person and as many by the person.
    /// Returns the number of changed records.
    async fn pseudonymize_audit(
        &self,
        app_id: &AppId,
        ids: &[String],
        pseudonym: &str,
        limit: u32,
    ) -> Result<u64>;
    /// Deletes at most `limit` records older than `before`, oldest first, and returns their number. Permits the deletion
    /// of nothing younger.
    async fn purge_audit(&self, before: Timestamp, limit: u32) -> Result<u64>;
}

#[cfg(test)]
mod tests {
    use larkauth_models::{KeyAccess, Origin, Principal};

    use super::*;

    #[test]
    fn entry_text_is_bounded_and_on_one_line() {
        let principal =
            Principal::ApiKey { id: Uuid::nil(), name: "a\nb".to_owned(), access: KeyAccess::default() };
        let origin = Origin { address: Some("x".repeat(1000)), request_id: None };
        let entry = AuditEntry::new(
            Uuid::nil(),
            &Actor { principal, origin },
            Timestamp::UNIX_EPOCH,
            AuditAction::TokenServe,
        );
        assert_eq!(entry.actor_name.as_deref(), Some("a b"));
        assert_eq!(entry.address.unwrap().len(), MAX_TEXT);
    }

    #[test]
    fn pseudonym_depends_on_application_and_person() {
        let app = |text: &str| AppId::new(text).unwrap();
        let (a, b) = (app("cli_0123456789abcdef"), app("cli_fedcba9876543210"));
        let open_id = OpenId::new("ou_1").unwrap();
        assert_eq!(pseudonym(&a, &open_id), pseudonym(&a, &open_id));
        assert_ne!(pseudonym(&a, &open_id), pseudonym(&b, &open_id));
        assert_ne!(pseudonym(&a, &open_id), pseudonym(&a, &OpenId::new("ou_2").unwrap()));
        assert_eq!(pseudonym(&a, &open_id).len(), "erased:".len() + 32);
    }
}
