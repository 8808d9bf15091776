//! The end of a session: the transition, its announcement, its metrics.
//!
//! The transition leaves the end unannounced, in the same statement. The announcement is published afterwards and its
//! confirm recorded; [`Context::announce_ends`] publishes the ends for which that did not happen. So every end is
//! announced at least once, always with the same event id.

use std::time::Duration;

use larkauth_contracts::{
    message::{CardFaceRequested, SessionEnded},
    topology::Queue,
};
use larkauth_models::{Actor, AppId, AuditAction, AuthSession, EventId, SessionId, SessionState};
use larkauth_storage::{AuditEntry, SessionEnding, UnannouncedEnd};

use crate::{context::Context, error::AuthError, event_id::event_id};

impl Context {
    /// Ends a pending session, counts and announces the end. Returns the session as it is then; another process may have
    /// ended it first.
    pub(crate) async fn end_session(
        &self,
        actor: &Actor,
        session: &AuthSession,
        ending: SessionEnding,
        answer_pending: bool,
    ) -> Result<AuthSession, AuthError> {
        if self.store_end(actor, session, ending).await? {
            self.after_end(session.id, answer_pending).await
        } else {
            self.existing_session(session.id).await
        }
    }

    /// Ends a pending session in the store. False when it has ended already.
    pub(crate) async fn store_end(
        &self,
        actor: &Actor,
        session: &AuthSession,
        ending: SessionEnding,
    ) -> Result<bool, AuthError> {
        let action = match ending {
            SessionEnding::Rejected => AuditAction::SessionReject,
            SessionEnding::Expired => AuditAction::SessionExpire,
            SessionEnding::Failed(_) => AuditAction::SessionFail,
        };
        let act = self.act_on_session(actor, session, action);
        let ended = self.store.end_session(session.id, ending, &act).await.map_err(AuthError::from);
        self.settle_change(act, ended, |ended| *ended)
    }

    /// Begins the record of an act on a session, now.
    pub(crate) fn act_on_session(
        &self,
        actor: &Actor,
        session: &AuthSession,
        action: AuditAction,
    ) -> AuditEntry {
        self.act(actor, self.now(), action).app(&session.app_id).person(&session.person).session(session.id)
    }

    /// Counts and announces the end of a session. Only the caller that made the transition calls it. An announcement that
    /// fails is left to the sweep.
    pub(crate) async fn after_end(
        &self,
        id: SessionId,
        answer_pending: bool,
    ) -> Result<AuthSession, AuthError> {
        let session = self.existing_session(id).await?;
        self.record_end(&session);
        let data = SessionEnded {
            session_id: session.id,
            state: session.state,
            failure_reason: session.failure_reason,
            open_id: session.person.open_id.clone(),
            user_id: session.person.user_id.clone(),
            card_answer_pending: answer_pending,
        };
        if let Err(error) = self.announce(&session.app_id, data).await {
            tracing::warn!(session_id = %id, %error, "auth.session.announce: left to the sweep");
        }
        Ok(session)
    }

    /// Announces an end that is not announced.
    pub(crate) async fn announce_late(&self, end: &UnannouncedEnd) -> Result<(), AuthError> {
        let data = SessionEnded {
            session_id: end.id,
            state: end.state,
            failure_reason: end.failure_reason,
            open_id: end.person.open_id.clone(),
            user_id: end.person.user_id.clone(),
            card_answer_pending: false,
        };
        self.announce(&end.app_id, data).await
    }

    /// Publishes the end of a session and records the confirm. A repeated announcement carries the same event id.
    async fn announce(&self, app_id: &AppId, end: SessionEnded) -> Result<(), AuthError> {
        let id = end.session_id;
        let message = self.outgoing(event_id("ended", &id.to_string()), app_id, end)?;
        self.bus.publish(message).await?;
        self.store.record_announced(id, self.now()).await?;
        Ok(())
    }

    /// Requests a look at a session's card, now or after a delay.
    pub(crate) async fn request_card_face(
        &self,
        app_id: &AppId,
        session_id: SessionId,
        delay: Duration,
    ) -> Result<(), AuthError> {
        let id = EventId::new(format!("face-{}", self.new_uuid()))
            .map_err(|e| AuthError::Invalid(e.to_string()))?;
        let message = self.outgoing(id, app_id, CardFaceRequested { session_id })?;
        if delay.is_zero() {
            self.bus.publish(message).await?;
        } else {
            self.bus.publish_later(message, Queue::CardFaces, delay).await?;
        }
        Ok(())
    }

    /// Counts and logs the end of a session. Only the caller that made the transition calls it, so it runs once.
    pub(crate) fn record_end(&self, session: &AuthSession) {
        let (app_id, method) = (session.app_id.as_str(), session.auth_method.as_str());
        match session.state {
            SessionState::Completed => {
                let took = (self.now() - session.created_at).to_std().unwrap_or_default();
                self.metrics.auth_succeeded(app_id, method, took);
            }
            SessionState::Expired => self.metrics.sessions_expired(app_id, 1),
            SessionState::Rejected => self.metrics.auth_failed(app_id, method, "rejected"),
            SessionState::Failed | SessionState::Pending => {
                let reason = session.failure_reason.map_or("unknown", larkauth_models::FailureReason::as_str);
                self.metrics.auth_failed(app_id, method, reason);
            }
        }
        tracing::info!(
            session_id = %session.id, app_id = %session.app_id, state = %session.state,
            failure_reason = session.failure_reason.map(larkauth_models::FailureReason::as_str),
            "auth.session.ended"
        );
    }
}
