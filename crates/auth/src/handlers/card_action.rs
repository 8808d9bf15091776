use async_trait::async_trait;
use larkauth_contracts::message::{CardActionKind, CardActionTriggered, Envelope, Reply};
use larkauth_lark::card::{self, ToastKind, ToastText};
use larkauth_messaging::{Delivery, Handler, Verdict};
use larkauth_models::{AuthSession, CardFace, FailureReason, SessionId, SessionState};
use larkauth_storage::SessionEnding;

use super::{Handled, Trouble, USER_ID_PERMISSION, decode, may_be_half_done, verdict};
use crate::{
    App, AuthError, Context, cards,
    consent::{self, Budget},
    events::AFTER_THE_ANSWER,
    seal,
    sessions::Invite,
};

/// Handles a click on a card and replies with the callback's answer. Only the person who was asked can change anything;
/// a click that was handled before is answered again and changes nothing.
pub(super) struct CardActionHandler(pub(super) Context);

const CONSUMER: &str = "card-actions";

#[async_trait]
impl Handler for CardActionHandler {
    async fn handle(&self, delivery: Delivery) -> Verdict {
        verdict(self.click(&delivery).await)
    }
}

impl CardActionHandler {
    async fn click(&self, delivery: &Delivery) -> Handled {
        let budget = Budget::begin();
        let context = &self.0;
        let envelope = decode::<CardActionTriggered>(delivery)?;
        let click = &envelope.data;
        let Some(session) = context.store.session(click.session_id).await? else {
            return Ok(Some(toast_only((ToastKind::Warning, ToastText::AlreadyOver))));
        };
        match session.person.is(&click.operator_open_id, click.operator_user_id.as_ref()) {
            Some(true) => {}
            Some(false) => {
                tracing::warn!(
                    "auth.card.click: somebody else than the person who was asked, nothing changes"
                );
                return Ok(Some(toast_only((ToastKind::Warning, ToastText::NotForYou))));
            }
            None => {
                tracing::error!(
                    "auth.card.click: Lark does not tell the user id by which this person was asked, nothing changes; \
                     {USER_ID_PERMISSION}"
                );
                let toast = ToastText::Failed(FailureReason::AppMisconfigured);
                return Ok(Some(toast_only((ToastKind::Error, toast))));
            }
        }
        let app = context.apps.any(&session.app_id).await?;
        // A retry is told apart by its session: answered with the ended one, the card would go back to it.
        if click.action != CardActionKind::Retry && context.store.is_processed(CONSUMER, &envelope.id).await?
        {
            return Ok(Some(self.current(&app, &session).await));
        }
        if let (None, SessionState::Pending, Some(card)) =
            (&session.message_id, session.state, &click.message_id)
        {
            // Whoever sent it died, or lost the store, before writing it down.
            context.store.record_card(session.id, card, CardFace::Invitation).await?;
        }
        if session.person.open_id.is_none() {
            context.store.record_open_id(session.id, &click.operator_open_id).await?;
        }
        let reply = match click.action {
            CardActionKind::Retry => self.retry(&app, session).await?,
            CardActionKind::Authorize | CardActionKind::Cancel => {
                self.answer_invitation(&app, session, &envelope, may_be_half_done(delivery), budget).await?
            }
        };
        context.store.mark_processed(CONSUMER, &envelope.id, context.now()).await?;
        Ok(Some(reply))
    }

    /// Authorize or cancel, on the card of an open invitation.
    async fn answer_invitation(
        &self,
        app: &App,
        session: AuthSession,
        envelope: &Envelope<CardActionTriggered>,
        may_be_half_done: bool,
        budget: Budget,
    ) -> Result<Reply, Trouble> {
        let context = &self.0;
        if session.state.is_final() {
            if may_be_half_done {
                context.announce_end(&session, true).await?;
            }
            return Ok(self.current(app, &session).await);
        }
        if session.expires_at <= envelope.time {
            let session = context.end(session.id, SessionEnding::Expired, true).await?;
            return Ok(self.current(app, &session).await);
        }
        match (envelope.data.action, &envelope.data.code) {
            (CardActionKind::Cancel, _) => {
                let session = context.end(session.id, SessionEnding::Rejected, true).await?;
                Ok(self.current(app, &session).await)
            }
            (_, Some(sealed)) => {
                let code = seal::open(&context.cipher, seal::CODE, &session.id.to_string(), sealed)?;
                let attempt = consent::Attempt {
                    code,
                    from_card: true,
                    received_at: envelope.time,
                    may_be_half_done,
                    budget,
                };
                let session = consent::run(context, session, attempt).await?;
                Ok(self.current(app, &session).await)
            }
            // The button opened the consent page; the card keeps it, so that a closed page can be opened again.
            (_, None) => {
                let toast = (ToastKind::Info, ToastText::ConfirmOnPage);
                Ok(self.reply(app, &session, CardFace::Processing, toast).await)
            }
        }
    }

    /// "Ask again" on an ended invitation's card: a new session goes on with the same card.
    async fn retry(&self, app: &App, ended: AuthSession) -> Result<Reply, Trouble> {
        let context = &self.0;
        // An ended session has one successor, so that neither a repeated delivery nor a double click asks twice.
        let digest = seal::digest(&["retry", &ended.id.to_string()]);
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = digest;
        let session_id = SessionId(uuid::Builder::from_custom_bytes(head).into_uuid());
        if let Some(session) = context.store.session(session_id).await? {
            return Ok(self.current(app, &session).await);
        }
        if matches!(ended.state, SessionState::Pending | SessionState::Completed) {
            return Ok(self.current(app, &ended).await);
        }
        let invite = Invite {
            app_id: ended.app_id.clone(),
            person: ended.person.clone(),
            auth_method: ended.auth_method,
            scopes: Some(ended.scopes.clone()),
            card: ended.card.clone(),
        };
        let created = async {
            let inviting = context.apps.inviting(&ended.app_id).await?;
            let new = context.new_session(session_id, &inviting, invite, Some(ended.id))?;
            context.create(&new).await
        };
        match created.await {
            Ok(()) => {}
            Err(AuthError::RateLimited { .. }) => {
                return Ok(toast_only((ToastKind::Warning, ToastText::TooOften)));
            }
            Err(AuthError::AppFrozen { .. } | AuthError::AppDisabled(_)) => {
                return Ok(toast_only((ToastKind::Warning, ToastText::TryAgain)));
            }
            Err(error) => return Err(error.into()),
        }
        // In case this answer comes too late to be shown.
        context.request_face(&ended.app_id, session_id, AFTER_THE_ANSWER).await?;
        let session = context.existing(session_id).await?;
        Ok(self.reply(app, &session, CardFace::Invitation, (ToastKind::Info, ToastText::AskedAgain)).await)
    }

    /// The card as the session's state asks for, with a word about it.
    async fn current(&self, app: &App, session: &AuthSession) -> Reply {
        let toast = match session.state {
            SessionState::Pending => (ToastKind::Info, ToastText::ConfirmOnPage),
            SessionState::Completed => (ToastKind::Success, ToastText::Authorized),
            SessionState::Rejected => (ToastKind::Info, ToastText::Declined),
            SessionState::Expired => (ToastKind::Warning, ToastText::Expired),
            SessionState::Failed => {
                let reason = session.failure_reason.unwrap_or(FailureReason::UpstreamUnavailable);
                (ToastKind::Error, ToastText::Failed(reason))
            }
        };
        let face = match session.state {
            SessionState::Pending => CardFace::Processing,
            state => cards::face_of(state),
        };
        self.reply(app, session, face, toast).await
    }

    async fn reply(
        &self,
        app: &App,
        session: &AuthSession,
        face: CardFace,
        (kind, text): (ToastKind, ToastText),
    ) -> Reply {
        let card = cards::render(&self.0, app, session, face).await;
        Reply {
            answer: Some(card::answer(Some(card::toast(kind, text)), Some(&card))),
            shows: Some((session.id, face)),
        }
    }
}

fn toast_only((kind, text): (ToastKind, ToastText)) -> Reply {
    Reply { answer: Some(card::answer(Some(card::toast(kind, text)), None)), shows: None }
}
