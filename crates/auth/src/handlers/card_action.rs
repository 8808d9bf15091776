use async_trait::async_trait;
use larkauth_contracts::message::{CardActionTriggered, Reply};
use larkauth_lark::card::{self, ToastKind, ToastText};
use larkauth_messaging::{Delivery, Disposition, Handler};
use larkauth_models::{AuthSession, CardFace, FailureReason, SessionState};

use super::{
    decode::{decode, received},
    error::{HandlerError, HandlerResult, into_disposition},
};
use crate::{
    cards,
    consent::click::{ClickOutcome, Refusal, View},
    context::Context,
};

/// Handles a click on a card. The reply is the answer to the callback.
pub(super) struct CardActionHandler(pub(super) Context);

#[async_trait]
impl Handler for CardActionHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        into_disposition(self.click(&delivery).await)
    }
}

impl CardActionHandler {
    async fn click(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<CardActionTriggered>(delivery)?;
        let received = received(self.0.policy(), delivery, &envelope);
        let outcome = self.0.take_click(&envelope, received).await?;
        let is_dead = matches!(outcome, ClickOutcome::Refused(Refusal::OtherApplication));
        let reply = self.reply(outcome).await;
        if is_dead {
            let reason = format!(
                "a click of application {} on a card of another application's session {}",
                envelope.appid, envelope.data.session_id
            );
            return Err(HandlerError::Refused { reason, reply });
        }
        Ok(Some(reply))
    }

    async fn reply(&self, outcome: ClickOutcome) -> Reply {
        match outcome {
            ClickOutcome::Refused(refusal) => {
                let (kind, text) = refusal_toast(refusal);
                Reply {
                    answer: Some(card::answer(Some(card::toast(kind, text)), None)),
                    shows: None,
                    unknown_session: matches!(refusal, Refusal::UnknownSession),
                }
            }
            ClickOutcome::Shown { app, session, view } => {
                let (face, kind, text) = shown(&session, view);
                let (card, shows) = cards::render_answer(&self.0, &app, &session, face).await;
                Reply {
                    answer: Some(card::answer(Some(card::toast(kind, text)), Some(&card))),
                    shows: shows.then_some((session.id, face)),
                    unknown_session: false,
                }
            }
        }
    }
}

const fn refusal_toast(refusal: Refusal) -> (ToastKind, ToastText) {
    match refusal {
        Refusal::UnknownSession | Refusal::OtherApplication => (ToastKind::Error, ToastText::UnknownSession),
        Refusal::OtherPerson => (ToastKind::Warning, ToastText::NotForYou),
        Refusal::UnidentifiedPerson => (ToastKind::Error, ToastText::Failed(FailureReason::AppMisconfigured)),
        Refusal::TooOften => (ToastKind::Warning, ToastText::TooOften),
        Refusal::Disabled => (ToastKind::Error, ToastText::Failed(FailureReason::AppDisabled)),
        Refusal::TryLater => (ToastKind::Warning, ToastText::TryAgain),
    }
}

/// Returns the face and the toast for a session.
fn shown(session: &AuthSession, view: View) -> (CardFace, ToastKind, ToastText) {
    match view {
        View::ConsentPage => return (CardFace::Processing, ToastKind::Info, ToastText::ConfirmOnPage),
        View::AskedAgain => return (cards::face_of_session(session), ToastKind::Info, ToastText::AskedAgain),
        View::State => {}
    }
    let (kind, text) = match session.state {
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
    (face, kind, text)
}
