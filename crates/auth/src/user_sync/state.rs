//! Suspending and restoring a person.

use std::sync::Arc;

use larkauth_models::{Actor, AppId, AuditAction, OpenId, SuspensionReason, TokenKind, TokenStatus};
use larkauth_storage::AuditEntry;

use crate::{apps::App, context::Context, error::AuthError};

/// The actor of a suspension that a refresh found.
const REFRESH: Actor = Actor::service("refresh");

impl Context {
    /// Suspends a person: the token is neither served nor refreshed.
    pub(super) async fn suspend_person(
        &self,
        actor: &Actor,
        app_id: &AppId,
        open_id: &OpenId,
        reason: SuspensionReason,
    ) -> Result<(), AuthError> {
        let act = self.act_on_person(actor, AuditAction::PersonSuspend, app_id, open_id);
        if self.store.suspend_person(app_id, open_id, reason, &act).await? {
            self.note_done(&act);
            self.count_suspended(app_id, reason);
        }
        Ok(())
    }

    /// Notes that a refresh has suspended a person, because Lark refused the person.
    pub(crate) fn note_suspended(&self, app_id: &AppId, open_id: &OpenId) {
        let act = self.act_on_person(&REFRESH, AuditAction::PersonSuspend, app_id, open_id);
        // The call records it, and returns what it was given.
        let _ = self.settle_outside(act, Ok::<_, AuthError>(true));
        self.count_suspended(app_id, SuspensionReason::Refused);
    }

    /// Restores a person who can use Lark again.
    pub(super) async fn restore_person(
        &self,
        actor: &Actor,
        app_id: &AppId,
        open_id: &OpenId,
        refreshed: bool,
    ) -> Result<(), AuthError> {
        let act = self.act_on_person(actor, AuditAction::PersonRestore, app_id, open_id);
        if self.store.restore_person(app_id, open_id, refreshed, &act).await? {
            self.note_done(&act);
            self.count_restored(app_id);
        }
        Ok(())
    }

    /// Restores a person whom Lark refused, if Lark accepts the person now: a refresh finds out. The state of the account alone
    /// says too little, as the application may not be available to the person.
    pub(super) async fn restore_refused(
        &self,
        actor: &Actor,
        app: &Arc<App>,
        open_id: &OpenId,
    ) -> Result<(), AuthError> {
        let app_id = &app.application.app_id;
        if self.refresh_suspended(app, open_id).await? {
            return self.restore_person(actor, app_id, open_id, true).await;
        }
        let token = self.store.token(app_id, open_id, TokenKind::User).await?;
        if token.is_some_and(|token| token.status == TokenStatus::ReauthorizationRequired) {
            // Lark complains of the token and no longer of the person, who can be asked again.
            let act = self.act_on_person(actor, AuditAction::PersonRestore, app_id, open_id);
            let _ = self.settle_outside(act, Ok::<_, AuthError>(true));
            self.count_restored(app_id);
        }
        Ok(())
    }

    fn act_on_person(
        &self,
        actor: &Actor,
        action: AuditAction,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> AuditEntry {
        self.act(actor, self.now(), action).app(app_id).open_id(open_id)
    }

    fn count_suspended(&self, app_id: &AppId, reason: SuspensionReason) {
        self.metrics.user_suspended(app_id.as_str(), reason.as_str());
        tracing::warn!(%app_id, %reason, "auth.person.suspended: the audit log names the person");
    }

    fn count_restored(&self, app_id: &AppId) {
        self.metrics.user_restored(app_id.as_str());
        tracing::info!(%app_id, "auth.person.restored");
    }
}
