use async_trait::async_trait;
use larkauth_contracts::message::{CardFaceRequested, Message, SessionEnded};
use larkauth_lark::error::ErrorKind;
use larkauth_messaging::{Delivery, Handler, Verdict};
use larkauth_models::{AppId, AuthSession, CardFace, SessionId};

use super::{Handled, Trouble, decode, verdict};
use crate::{Context, announce::AFTER_THE_ANSWER, cards};

/// Brings a card to the face that its session's state asks for, once. A card that can no longer be changed (recalled,
/// deleted, too old) is taken as done. After [`PATIENCE`] attempts the housekeeper's mending takes over.
pub(super) struct CardFaceHandler(pub(super) Context);

/// 1 + 2 + 4 + 8 + 16 s of backoff; the housekeeper looks again after a minute.
const PATIENCE: u32 = 6;

#[async_trait]
impl Handler for CardFaceHandler {
    async fn handle(&self, delivery: Delivery) -> Verdict {
        let handled = match delivery.r#type.as_str() {
            SessionEnded::TYPE => self.ended(&delivery).await,
            CardFaceRequested::TYPE => self.requested(&delivery).await,
            _ => Err(Trouble::Dead("a message type this queue does not know".to_owned())),
        };
        match verdict(handled) {
            Verdict::Retry { reason, .. } if delivery.attempt >= PATIENCE => {
                tracing::warn!(reason, "auth.card.update: left to the next round of mending");
                Verdict::DONE
            }
            other => other,
        }
    }
}

impl CardFaceHandler {
    async fn ended(&self, delivery: &Delivery) -> Handled {
        let envelope = decode::<SessionEnded>(delivery)?;
        if envelope.data.card_answer_pending {
            // The answer that is under way carries this face; look afterwards whether it arrived.
            self.0.request_face(&envelope.appid, envelope.data.session_id, AFTER_THE_ANSWER).await?;
            return Ok(None);
        }
        self.bring_up_to_date(&envelope.appid, envelope.data.session_id).await
    }

    async fn requested(&self, delivery: &Delivery) -> Handled {
        let envelope = decode::<CardFaceRequested>(delivery)?;
        self.bring_up_to_date(&envelope.appid, envelope.data.session_id).await
    }

    async fn bring_up_to_date(&self, app_id: &AppId, session_id: SessionId) -> Handled {
        let context = &self.0;
        let Some(session) = context.store.session(session_id).await? else { return Ok(None) };
        let face = cards::face_of(session.state);
        if !needs(&session, face) {
            return Ok(None);
        }
        let Some(message_id) = &session.message_id else { return Ok(None) };
        let app = context.apps.any(app_id).await?;
        let card = cards::render(context, &app, &session, face).await;
        if let Err(error) = app.client.update_card(message_id, &card).await {
            match error.kind {
                ErrorKind::Message(_) => {
                    tracing::warn!(%error, "auth.card.update: the card can no longer be changed");
                }
                ErrorKind::InsufficientScope { .. } | ErrorKind::InvalidRequest => {
                    tracing::error!(%error, "auth.card.update: given up, trying again does not help");
                }
                _ => return Err(error.into()),
            }
        }
        context.store.record_face(session_id, face).await?;
        Ok(None)
    }
}

/// A pending session's card is right with either open face; an ended one's only with its own.
fn needs(session: &AuthSession, face: CardFace) -> bool {
    match (face, session.card_face) {
        (CardFace::Invitation, Some(CardFace::Processing | CardFace::Reauthorize)) => false,
        (wanted, shown) => shown != Some(wanted),
    }
}
