use async_trait::async_trait;
use larkauth_contracts::message::InvitationRequested;
use larkauth_messaging::{Delivery, Disposition, Handler};

use super::{
    decode::decode,
    error::{HandlerResult, into_disposition},
};
use crate::context::Context;

/// Sends the card of a new session. A repeated delivery sends no second card.
pub(super) struct InvitationHandler(pub(super) Context);

#[async_trait]
impl Handler for InvitationHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        into_disposition(self.invite(&delivery).await)
    }
}

impl InvitationHandler {
    async fn invite(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<InvitationRequested>(delivery)?;
        self.0.send_card(&envelope.appid, envelope.data.session_id, delivery.redelivered).await?;
        Ok(None)
    }
}
