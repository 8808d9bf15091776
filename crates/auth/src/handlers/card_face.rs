use async_trait::async_trait;
use larkauth_contracts::message::{CardFaceRequested, Message, SessionEnded};
use larkauth_messaging::{Delivery, Disposition, Handler};

use super::{
    decode::decode,
    error::{HandlerError, HandlerResult, into_disposition},
};
use crate::context::Context;

/// Updates a card to the face of its session's state, once. After
/// [`Policy::card_update_attempts`](crate::Policy::card_update_attempts) the reconciliation takes over.
pub(super) struct CardFaceHandler(pub(super) Context);

#[async_trait]
impl Handler for CardFaceHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        let result = match delivery.r#type.as_str() {
            SessionEnded::TYPE => self.ended(&delivery).await,
            CardFaceRequested::TYPE => self.requested(&delivery).await,
            _ => Err(HandlerError::unknown_type()),
        };
        match into_disposition(result) {
            Disposition::Retry { reason, .. } if delivery.attempt >= self.0.policy.card_update_attempts => {
                tracing::warn!(reason, "auth.card.update: left to the next reconciliation");
                Disposition::DONE
            }
            other => other,
        }
    }
}

impl CardFaceHandler {
    async fn ended(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<SessionEnded>(delivery)?;
        let (app_id, session_id) = (&envelope.appid, envelope.data.session_id);
        if envelope.data.card_answer_pending {
            // An answer that is under way carries the face already; the card is checked after the answer.
            self.0.request_card_face(app_id, session_id, self.0.policy.after_answer_delay).await?;
        } else {
            self.0.update_card(app_id, session_id).await?;
        }
        Ok(None)
    }

    async fn requested(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<CardFaceRequested>(delivery)?;
        self.0.update_card(&envelope.appid, envelope.data.session_id).await?;
        Ok(None)
    }
}
