use async_trait::async_trait;
use chrono::TimeDelta;
use larkauth_contracts::message::InvitationRequested;
use larkauth_lark::{api::Receiver, error::ErrorKind};
use larkauth_messaging::{Delivery, Handler, Verdict};
use larkauth_models::{AuthSession, CardFace, FailureReason};
use larkauth_storage::SessionEnding;

use super::{Handled, Trouble, decode, verdict};
use crate::{AuthError, Context, cards};

/// Sends the card of a new session. A repeated delivery sends nothing twice: the card's `uuid` is the session's id, and
/// a session that has its card is done. A person who cannot be reached ends the session, and so does a card that this
/// side got wrong; only an application that Lark refuses opens its breaker, too.
pub(super) struct InvitationHandler(pub(super) Context);

/// Lark sends at most one message with the same `uuid` in an hour.
const SENT_ONCE: TimeDelta = TimeDelta::minutes(55);

#[async_trait]
impl Handler for InvitationHandler {
    async fn handle(&self, delivery: Delivery) -> Verdict {
        verdict(self.invite(&delivery).await)
    }
}

impl InvitationHandler {
    async fn invite(&self, delivery: &Delivery) -> Handled {
        let context = &self.0;
        let envelope = decode::<InvitationRequested>(delivery)?;
        let Some(session) = context.store.session(envelope.data.session_id).await? else { return Ok(None) };
        // Expiry is the housekeeper's; a card that can no longer be used is not sent. But whoever died with this delivery
        // in hand may have sent it and not written it down: sent again, Lark only says which one it is.
        let over = session.state.is_final() || session.expires_at <= context.now();
        let may_be_out = delivery.redelivered && context.now() - session.created_at < SENT_ONCE;
        if session.message_id.is_some() || (over && !may_be_out) {
            return Ok(None);
        }
        let app = if over {
            context.apps.any(&session.app_id).await
        } else {
            context.apps.inviting(&session.app_id).await
        };
        let app = match app {
            Ok(app) => app,
            Err(AuthError::AppFrozen { .. }) => {
                return self.fail(session, FailureReason::AppMisconfigured).await;
            }
            Err(error) => return Err(error.into()),
        };
        let card = cards::render(context, &app, &session, cards::face_of(session.state)).await;
        let receiver = match (&session.person.open_id, &session.person.user_id) {
            (Some(open_id), _) => Receiver::OpenId(open_id.clone()),
            (None, Some(user_id)) => Receiver::UserId(user_id.clone()),
            (None, None) => return Err(Trouble::Dead("the session names no person".to_owned())),
        };
        match app.client.send_card(&receiver, &card, &session.id.to_string()).await {
            Ok(message_id) => {
                context.store.record_card(session.id, &message_id, CardFace::Invitation).await?;
                self.mend_if_ended_meanwhile(&session).await
            }
            Err(error) => match error.kind {
                ErrorKind::Transient | ErrorKind::RateLimited | ErrorKind::Unknown => Err(error.into()),
                ErrorKind::App | ErrorKind::InsufficientScope { .. } => {
                    context.apps.freeze(&session.app_id, &error.to_string(), context.now()).await?;
                    self.fail(session, FailureReason::AppMisconfigured).await
                }
                ErrorKind::User => self.fail(session, FailureReason::UserUnavailable).await,
                _ => {
                    tracing::warn!(%error, "auth.invitation.undeliverable");
                    self.fail(session, FailureReason::CardUndeliverable).await
                }
            },
        }
    }

    async fn mend_if_ended_meanwhile(&self, session: &AuthSession) -> Handled {
        let state = self.0.existing(session.id).await?.state;
        if state.is_final() {
            self.0.request_face(&session.app_id, session.id, std::time::Duration::ZERO).await?;
        }
        Ok(None)
    }

    async fn fail(&self, session: AuthSession, reason: FailureReason) -> Handled {
        self.0.end(session.id, SessionEnding::Failed(reason), false).await?;
        Ok(None)
    }
}
