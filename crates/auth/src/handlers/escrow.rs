use async_trait::async_trait;
use larkauth_contracts::message::TokenEscrowed;
use larkauth_messaging::{Delivery, Disposition, Handler};

use super::{
    decode::decode,
    error::{HandlerResult, into_disposition},
};
use crate::context::Context;

/// Moves a token pair to the store, which did not take it when Lark gave it.
pub(super) struct EscrowHandler(pub(super) Context);

#[async_trait]
impl Handler for EscrowHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        into_disposition(self.escrowed(&delivery).await)
    }
}

impl EscrowHandler {
    async fn escrowed(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<TokenEscrowed>(delivery)?;
        self.0.take_escrow(&envelope, delivery.attempt).await?;
        Ok(None)
    }
}
