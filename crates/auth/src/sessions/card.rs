use std::time::Duration;

use chrono::TimeDelta;
use larkauth_lark::{
    api::Receiver,
    error::{ErrorKind, MessageProblem},
};
use larkauth_models::{AppId, AuthSession, CardFace, FailureReason, SessionId};
use larkauth_storage::SessionEnding;

use crate::{cards, context::Context, error::AuthError, worker::WORKER};

/// The answer to a card of the other schema, among others.
const CARD_REFUSED: ErrorKind = ErrorKind::Message(MessageProblem::CardRefused);

impl Context {
    /// Sends the card of a new session. The card's `uuid` is the session's id, so Lark sends one card at most; a session
    /// that has its card is done. A person who cannot be reached fails the session, and so does a card that this side got
    /// wrong. Only an application that Lark refuses opens its breaker, too.
    pub(crate) async fn send_card(
        &self,
        app_id: &AppId,
        session_id: SessionId,
        is_redelivered: bool,
    ) -> Result<(), AuthError> {
        let Some(session) = self.session_of(app_id, session_id).await? else { return Ok(()) };
        // The maintenance expires sessions; a card that can no longer be used is not sent. But a worker that stopped with
        // this delivery may have sent the card and not recorded it. Sent again, Lark only returns its id.
        let window = TimeDelta::from_std(self.policy.send_dedup_window).unwrap_or(TimeDelta::MAX);
        let is_over = session.state.is_final() || session.expires_at <= self.now();
        let may_be_sent = is_redelivered && self.now() - session.created_at < window;
        if session.message_id.is_some() || (is_over && !may_be_sent) {
            return Ok(());
        }
        self.check_encryption_keys().await?;
        let app = if is_over {
            self.apps.get(&session.app_id).await
        } else {
            self.apps.get_for_invitation(&session.app_id).await
        };
        let app = match app {
            Ok(app) => app,
            Err(AuthError::AppFrozen { .. }) => {
                return self.fail_invitation(&session, FailureReason::AppMisconfigured).await;
            }
            Err(AuthError::AppDisabled(_)) => {
                return self.fail_invitation(&session, FailureReason::AppDisabled).await;
            }
            Err(error) => return Err(error),
        };
        // The codes are stored before the card is sent, so that a worker that stops in between loses none.
        let session = if is_over {
            session
        } else {
            match self.with_device_codes(&app, session).await? {
                // It ended meanwhile, or Lark starts no device authorization.
                session if session.state.is_final() => return Ok(()),
                session => session,
            }
        };
        let face = cards::face_of_session(&session);
        let card = cards::render(self, &app, &session, face).await;
        let receiver = match (&session.person.open_id, &session.person.user_id) {
            (Some(open_id), _) => Receiver::OpenId(open_id.clone()),
            (None, Some(user_id)) => Receiver::UserId(user_id.clone()),
            (None, None) => return Err(AuthError::Invalid("the session names no person".to_owned())),
        };
        match app.client.send_card(&receiver, &card, &session.id.to_string()).await {
            Ok(message_id) => {
                self.store.record_card(session.id, &message_id, cards::first_face(&session)).await?;
                // The session may have ended while its card was on the way.
                if self.existing_session(session.id).await?.state.is_final() {
                    self.request_card_face(&session.app_id, session.id, Duration::ZERO).await?;
                }
                Ok(())
            }
            Err(error) => match error.kind {
                ErrorKind::Transient | ErrorKind::RateLimited | ErrorKind::Unknown => Err(error.into()),
                ErrorKind::App | ErrorKind::InsufficientScope { .. } => {
                    self.apps.breaker().open(&session.app_id, &error.to_string(), self.now()).await?;
                    self.fail_invitation(&session, FailureReason::AppMisconfigured).await
                }
                ErrorKind::User => self.fail_invitation(&session, FailureReason::UserUnavailable).await,
                _ => {
                    tracing::warn!(%error, "auth.invitation.undeliverable");
                    self.fail_invitation(&session, FailureReason::CardUndeliverable).await
                }
            },
        }
    }

    pub(super) async fn fail_invitation(
        &self,
        session: &AuthSession,
        reason: FailureReason,
    ) -> Result<(), AuthError> {
        self.end_session(&WORKER, session, SessionEnding::Failed(reason), false).await?;
        Ok(())
    }

    /// Updates a session's card to the face of its state, unless the card shows it already. A card that can no longer be
    /// changed (recalled, deleted, too old) and an update that Lark refuses for good count as updated.
    pub(crate) async fn update_card(&self, app_id: &AppId, session_id: SessionId) -> Result<(), AuthError> {
        let Some(session) = self.session_of(app_id, session_id).await? else { return Ok(()) };
        let face = cards::face_of_session(&session);
        let Some(message_id) = session.message_id.as_ref().filter(|_| needs_update(&session, face)) else {
            return Ok(());
        };
        let app = self.apps.get(app_id).await?;
        let mut updated = Ok(());
        for card in cards::render_update(self, &app, &session, face).await {
            updated = app.client.update_card(message_id, &card).await;
            if !updated.as_ref().is_err_and(|error| error.kind == CARD_REFUSED) {
                break;
            }
        }
        if let Err(error) = updated {
            match error.kind {
                ErrorKind::Transient | ErrorKind::RateLimited | ErrorKind::Unknown | ErrorKind::App => {
                    return Err(error.into());
                }
                ErrorKind::Message(
                    MessageProblem::Recalled | MessageProblem::Deleted | MessageProblem::TooOld,
                ) => {
                    tracing::warn!(%error, "auth.card.update: the card can no longer be changed");
                }
                _ => tracing::error!(%error, "auth.card.update: given up, another attempt does not help"),
            }
        }
        self.store.record_face(session_id, face).await?;
        if let Some(shown) = &session.device {
            self.store.record_device_card(session_id, shown.expires_at).await?;
        }
        Ok(())
    }
}

/// Returns whether a card must change. Either open face is right for a pending session, unless it shows device codes that
/// were replaced; an ended session has one face.
fn needs_update(session: &AuthSession, face: CardFace) -> bool {
    if session.device.as_ref().is_some_and(|device| device.is_card_stale) {
        return true;
    }
    match (face, session.card_face) {
        (
            CardFace::Invitation | CardFace::Reauthorize,
            Some(CardFace::Invitation | CardFace::Processing | CardFace::Reauthorize),
        ) => false,
        (wanted, shown) => shown != Some(wanted),
    }
}
