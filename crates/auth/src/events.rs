//! Telling the world that a session has ended, and counting it.

use std::time::Duration;

use larkauth_contracts::{
    message::{CardFaceRequested, Envelope, Message, SessionEnded},
    topology::Queue,
};
use larkauth_messaging::Outgoing;
use larkauth_models::{AppId, AuthSession, EventId, SessionId, SessionState};
use larkauth_storage::SessionEnding;

use crate::{AuthError, Context, handlers::id};

/// Lark takes at most 3 s for an answer; whatever must come after the answer waits a little longer.
pub(crate) const AFTER_THE_ANSWER: Duration = Duration::from_secs(4);

impl Context {
    /// Wraps a message of this process.
    pub(crate) fn outgoing<T: Message>(
        &self,
        id: EventId,
        app_id: &AppId,
        data: T,
    ) -> Result<Outgoing, AuthError> {
        Ok(Outgoing::new(&Envelope::new(id, &self.policy.source, self.now(), app_id.clone(), data))?)
    }

    /// Ends a pending session, counts and announces it; gives the session as it is then, whoever ended it.
    pub(crate) async fn end(
        &self,
        id: SessionId,
        ending: SessionEnding,
        answer_pending: bool,
    ) -> Result<AuthSession, AuthError> {
        if self.store.end_session(id, ending, self.now()).await? {
            self.ended(id, answer_pending).await
        } else {
            self.existing(id).await
        }
    }

    /// What follows the end of a session: to be called by whoever made the transition.
    pub(crate) async fn ended(&self, id: SessionId, answer_pending: bool) -> Result<AuthSession, AuthError> {
        let session = self.existing(id).await?;
        self.count_end(&session);
        self.announce_end(&session, answer_pending).await?;
        Ok(session)
    }

    /// Announces the end of a session. Twice is harmless: the announcement carries the same id.
    pub(crate) async fn announce_end(
        &self,
        session: &AuthSession,
        answer_pending: bool,
    ) -> Result<(), AuthError> {
        let data = SessionEnded {
            session_id: session.id,
            state: session.state,
            failure_reason: session.failure_reason,
            open_id: session.person.open_id.clone(),
            user_id: session.person.user_id.clone(),
            card_answer_pending: answer_pending,
        };
        let message = self.outgoing(id("ended", &session.id.to_string()), &session.app_id, data)?;
        Ok(self.bus.publish(message).await?)
    }

    /// Has a session's card looked at, now or after the callback in hand was answered.
    pub(crate) async fn request_face(
        &self,
        app_id: &AppId,
        session_id: SessionId,
        delay: Duration,
    ) -> Result<(), AuthError> {
        let id = EventId::new(format!("face-{}", self.entropy.uuid(&*self.clock)))
            .map_err(|e| AuthError::Invalid(e.to_string()))?;
        let message = self.outgoing(id, app_id, CardFaceRequested { session_id })?;
        if delay.is_zero() {
            self.bus.publish(message).await?;
        } else {
            self.bus.publish_later(message, Queue::CardFaces, delay).await?;
        }
        Ok(())
    }

    /// Counts and logs the end of a session; called by whoever made the transition, so exactly once.
    pub(crate) fn count_end(&self, session: &AuthSession) {
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
