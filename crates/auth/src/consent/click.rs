//! A click on a card.

use std::sync::Arc;

use larkauth_contracts::message::{CardActionKind, CardActionTriggered, Envelope};
use larkauth_models::{Actor, AuditAction, AuthSession, CardFace, FailureReason, SessionState};
use larkauth_storage::SessionEnding;

use super::{
    deadline::Received,
    error::ConsentError,
    exchange::{Attempt, exchange},
    identity::USER_ID_PERMISSION,
};
use crate::{
    apps::App,
    context::Context,
    error::AuthError,
    seal,
    sessions::{Invite, session_id_of},
};

/// Name under which handled clicks are remembered.
const CONSUMER: &str = "card-actions";

/// The effect of a click.
pub(crate) enum ClickOutcome {
    /// Nothing changed.
    Refused(Refusal),
    /// The card shows a session.
    Shown {
        /// The session's application.
        app: Arc<App>,
        /// The session, which is a new one after "ask again".
        session: Box<AuthSession>,
        /// What the card is to show of it.
        view: View,
    },
}

/// Why a click changed nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// The database does not have the card's session.
    UnknownSession,
    /// The card's session is of another application.
    OtherApplication,
    /// Another person than the one who was asked clicked.
    OtherPerson,
    /// Lark does not return the id by which the person was asked.
    UnidentifiedPerson,
    /// The person was asked too often.
    TooOften,
    /// The application may not invite now.
    TryLater,
    /// The application is switched off.
    Disabled,
}

/// What a card is to show of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View {
    /// Its state.
    State,
    /// That the consent page is open.
    ConsentPage,
    /// That the person was asked again.
    AskedAgain,
}

impl Context {
    /// Handles a click. Only the person who was asked can change anything; a click that was handled before changes
    /// nothing and has the same answer.
    pub(crate) async fn take_click(
        &self,
        message: &Envelope<CardActionTriggered>,
        received: Received,
    ) -> Result<ClickOutcome, ConsentError> {
        let click = &message.data;
        let found = match self.session_of(&message.appid, click.session_id).await {
            Err(AuthError::OtherApplication { .. }) => {
                return Ok(ClickOutcome::Refused(Refusal::OtherApplication));
            }
            found => found?,
        };
        let Some(session) = found else {
            self.metrics.unknown_session_clicked(message.appid.as_str());
            tracing::error!(
                "auth.card.unknown_session: a click on a larkauth card whose session this database does not have, nothing \
                 changes; another program is connected as this application, or the database was replaced"
            );
            return Ok(ClickOutcome::Refused(Refusal::UnknownSession));
        };
        if let Some(refusal) = check_operator(&session, click) {
            return Ok(ClickOutcome::Refused(refusal));
        }
        let actor = Actor::person(session.app_id.clone(), click.operator_open_id.clone(), &message.id);
        self.note_operation(&actor, message.time, "card.click");
        let app = self.apps.get(&session.app_id).await?;
        // A repeated "ask again" is recognised by its new session: answered with the ended one, the card would go back.
        if click.action != CardActionKind::Retry && self.store.is_processed(CONSUMER, &message.id).await? {
            return Ok(shown(app, session, View::State));
        }
        if let (None, SessionState::Pending, Some(card)) =
            (&session.message_id, session.state, &click.message_id)
        {
            // The process that sent the card stopped, or lost the store, before it recorded the card.
            self.store.record_card(session.id, card, CardFace::Invitation).await?;
        }
        if session.person.open_id.is_none() {
            self.store.record_open_id(session.id, &click.operator_open_id).await?;
        }
        let outcome = match click.action {
            CardActionKind::Retry => ask_again(self, &actor, app, session).await?,
            CardActionKind::Authorize | CardActionKind::Cancel => {
                let (session, view) = answer_invitation(self, &actor, &app, session, click, received).await?;
                shown(app, session, view)
            }
        };
        self.store.mark_processed(CONSUMER, &message.id, self.now()).await?;
        Ok(outcome)
    }
}

fn shown(app: Arc<App>, session: AuthSession, view: View) -> ClickOutcome {
    ClickOutcome::Shown { app, session: Box::new(session), view }
}

fn check_operator(session: &AuthSession, click: &CardActionTriggered) -> Option<Refusal> {
    match session.asked.is(&click.operator_open_id, click.operator_user_id.as_ref()) {
        Some(true) => None,
        Some(false) => {
            tracing::warn!("auth.card.click: another person than the one who was asked; nothing changes");
            Some(Refusal::OtherPerson)
        }
        None => {
            tracing::error!(
                "auth.card.click: Lark does not return the user id by which this person was invited, nothing changes; \
                 {USER_ID_PERMISSION}"
            );
            Some(Refusal::UnidentifiedPerson)
        }
    }
}

/// Handles "authorize" and "cancel" on the card of an open invitation.
async fn answer_invitation(
    context: &Context,
    actor: &Actor,
    app: &App,
    session: AuthSession,
    click: &CardActionTriggered,
    received: Received,
) -> Result<(AuthSession, View), ConsentError> {
    if session.state.is_final() {
        return Ok((session, View::State));
    }
    if session.expires_at <= received.at {
        return Ok((context.end_session(actor, &session, SessionEnding::Expired, true).await?, View::State));
    }
    match (click.action, &click.code) {
        (CardActionKind::Cancel, _) => {
            Ok((context.end_session(actor, &session, SessionEnding::Rejected, true).await?, View::State))
        }
        (_, Some(sealed)) => {
            let code = seal::open(&context.cipher, seal::CODE, &session.id.to_string(), sealed)?;
            let attempt = Attempt { code, from_card: true, received, origin: actor.origin.clone() };
            Ok((exchange(context, session, attempt).await?, View::State))
        }
        (_, None) if !context.apps.is_enabled_now(&session.app_id).await? => {
            let ending = SessionEnding::Failed(FailureReason::AppDisabled);
            Ok((context.end_session(actor, &session, ending, true).await?, View::State))
        }
        // The button opened the consent page. The card keeps the button, so that a closed page can be opened again.
        (_, None) => {
            let session = context.with_device_codes(app, session).await?;
            if session.state.is_final() {
                return Ok((session, View::State));
            }
            if session.device.is_some() {
                context.store.record_device_opened(session.id, context.now()).await?;
            }
            Ok((session, View::ConsentPage))
        }
    }
}

/// Handles "ask again" on an ended invitation's card: a new session takes the card over.
async fn ask_again(
    context: &Context,
    actor: &Actor,
    app: Arc<App>,
    ended: AuthSession,
) -> Result<ClickOutcome, ConsentError> {
    // An ended session has one successor, so that neither a repeated delivery nor a double click asks twice.
    let session_id = session_id_of(&["retry", &ended.id.to_string()]);
    if let Some(session) = context.store.session(session_id).await? {
        let session = context.with_device_codes(&app, session).await?;
        return Ok(shown(app, session, View::State));
    }
    if matches!(ended.state, SessionState::Pending | SessionState::Completed) {
        return Ok(shown(app, ended, View::State));
    }
    let invite = Invite {
        app_id: ended.app_id.clone(),
        person: ended.asked.clone(),
        auth_method: ended.auth_method,
        scopes: Some(ended.scopes.clone()),
        card: ended.card.clone(),
    };
    let act =
        context.act(actor, context.now(), AuditAction::SessionCreate).app(&ended.app_id).session(session_id);
    let act = act.person(&ended.person);
    let created = async {
        let inviting = context.apps.get_for_invitation(&ended.app_id).await?;
        let (now, takes_card_of) = (context.now(), Some(ended.id));
        let new = context.new_session(session_id, &inviting, invite, now, takes_card_of, act.clone())?;
        context.create_session(&new).await
    };
    let created = created.await;
    match context.settle_change(act, created, |()| true) {
        Ok(()) => {}
        Err(AuthError::RateLimited { .. }) => return Ok(ClickOutcome::Refused(Refusal::TooOften)),
        Err(AuthError::AppFrozen { .. }) => return Ok(ClickOutcome::Refused(Refusal::TryLater)),
        Err(AuthError::AppDisabled(_)) => return Ok(ClickOutcome::Refused(Refusal::Disabled)),
        Err(error) => return Err(error.into()),
    }
    let session = context.existing_session(session_id).await?;
    let session = context.with_device_codes(&app, session).await?;
    // In case this answer arrives too late to be shown.
    context.request_card_face(&ended.app_id, session_id, context.policy.after_answer_delay).await?;
    let view = if session.state.is_final() { View::State } else { View::AskedAgain };
    Ok(shown(app, session, view))
}
