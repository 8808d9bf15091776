use std::time::Duration;

use larkauth_models::{
    Actor, AppId, AuditAction, AuthMethod, AuthSession, SessionId, SessionState, Timestamp,
};
use larkauth_storage::{SessionCursor, SessionFilter};
use tokio::time::Instant;
use url::Url;

use crate::{cards, context::Context, error::AuthError};

impl Context {
    /// Returns one session.
    ///
    /// # Errors
    /// [`AuthError::SessionNotFound`], or the store's.
    pub async fn session(
        &self,
        actor: &Actor,
        now: Timestamp,
        id: SessionId,
    ) -> Result<AuthSession, AuthError> {
        self.note_operation(actor, now, "session.show");
        self.visible_session(actor, id).await
    }

    /// Returns at most `limit` sessions after the cursor, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_sessions(
        &self,
        actor: &Actor,
        now: Timestamp,
        filter: &SessionFilter,
        after: Option<SessionCursor>,
        limit: u32,
    ) -> Result<Vec<AuthSession>, AuthError> {
        let found = async {
            if let Some(app_id) = &filter.app_id {
                Self::check_app(actor, app_id)?;
            }
            let app_ids = actor.access().map(|access| access.app_ids.clone()).unwrap_or_default();
            let filter = SessionFilter { app_ids, ..filter.clone() };
            Ok(self.store.list_sessions(&filter, after, limit).await?)
        };
        let mut act = self.act(actor, now, AuditAction::SessionList);
        act.app_id = filter.app_id.as_ref().map(ToString::to_string);
        act.person = filter.open_id.as_ref().map(ToString::to_string);
        self.settle_read(actor, act, found.await)
    }

    /// Waits until the session has ended, or for `at_most`, and returns the session as it is then.
    ///
    /// # Errors
    /// [`AuthError::SessionNotFound`], or the store's.
    pub async fn wait_for_end(
        &self,
        actor: &Actor,
        now: Timestamp,
        id: SessionId,
        at_most: Duration,
    ) -> Result<AuthSession, AuthError> {
        self.note_operation(actor, now, "session.wait");
        let until = Instant::now() + at_most;
        let mut poll = self.policy.session_poll;
        loop {
            let session = self.visible_session(actor, id).await?;
            let left = until.saturating_duration_since(Instant::now());
            if session.state != SessionState::Pending || left.is_zero() {
                return Ok(session);
            }
            tokio::time::sleep(poll.next(&*self.entropy).min(left)).await;
        }
    }

    /// Returns the consent page of a pending session without a card; its caller shows the page. `None` for any other
    /// session.
    ///
    /// # Errors
    /// [`AuthError::AppNotFound`], or the store's.
    pub async fn consent_page(
        &self,
        actor: &Actor,
        now: Timestamp,
        session: &AuthSession,
    ) -> Result<Option<Url>, AuthError> {
        if session.auth_method != AuthMethod::Oauth || session.state != SessionState::Pending {
            return Ok(None);
        }
        let page = async {
            Self::check_app(actor, &session.app_id)?;
            let app = self.apps.get(&session.app_id).await?;
            Ok(cards::authorize_url(&app, session))
        };
        let act =
            self.act(actor, now, AuditAction::SessionConsentPage).app(&session.app_id).session(session.id);
        self.settle_read(actor, act.person(&session.person), page.await)
    }

    /// Returns one session. A session of an application that the actor does not see looks like no session.
    async fn visible_session(&self, actor: &Actor, id: SessionId) -> Result<AuthSession, AuthError> {
        let session = self.existing_session(id).await?;
        if actor.may_use_app(&session.app_id) { Ok(session) } else { Err(AuthError::SessionNotFound(id)) }
    }

    /// Returns one session, for operations of this crate.
    pub(crate) async fn existing_session(&self, id: SessionId) -> Result<AuthSession, AuthError> {
        self.store.session(id).await?.ok_or(AuthError::SessionNotFound(id))
    }

    /// Returns the session that a message of this application names, which must exist.
    pub(crate) async fn named_session(
        &self,
        app_id: &AppId,
        id: SessionId,
    ) -> Result<AuthSession, AuthError> {
        self.session_of(app_id, id).await?.ok_or(AuthError::SessionNotFound(id))
    }

    /// Returns the session that a message of this application names, if it exists. An application reaches its own sessions only.
    pub(crate) async fn session_of(
        &self,
        app_id: &AppId,
        id: SessionId,
    ) -> Result<Option<AuthSession>, AuthError> {
        let session = self.store.session(id).await?;
        if session.as_ref().is_some_and(|session| session.app_id != *app_id) {
            return Err(AuthError::OtherApplication { app_id: app_id.clone(), session_id: id });
        }
        Ok(session)
    }
}
