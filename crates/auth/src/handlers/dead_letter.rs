use async_trait::async_trait;
use larkauth_contracts::message::{
    AuthorizationCodeReceived, AuthorizationDenied, CardActionTriggered, InvitationRequested, Message,
};
use larkauth_messaging::{Delivery, Disposition, Handler};

use super::{
    decode::decode,
    error::{HandlerError, HandlerResult, into_disposition},
};
use crate::{context::Context, seal};

/// Ends the session of a dead letter, or marks it in the log. The dead letter itself is kept for the operator. A notice that
/// cannot be read has no session to end, and is no dead letter a second time.
pub(super) struct DeadLetterHandler(pub(super) Context);

#[async_trait]
impl Handler for DeadLetterHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        let result = match delivery.r#type.as_str() {
            InvitationRequested::TYPE => self.invitation(&delivery).await,
            AuthorizationCodeReceived::TYPE => self.code(&delivery).await,
            AuthorizationDenied::TYPE => self.denial(&delivery).await,
            CardActionTriggered::TYPE => self.click(&delivery).await,
            kind => {
                tracing::error!(
                    kind,
                    "auth.dead_letter: no session ends; its dead letter waits for the operator"
                );
                Ok(None)
            }
        };
        match into_disposition(result) {
            Disposition::Dead { reason, .. } => {
                tracing::error!(reason, kind = delivery.r#type, "auth.dead_letter: its session is not known");
                Disposition::DONE
            }
            other => other,
        }
    }
}

impl DeadLetterHandler {
    async fn invitation(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<InvitationRequested>(delivery)?;
        self.0.fail_unsent(envelope.data.session_id).await?;
        Ok(None)
    }

    async fn code(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<AuthorizationCodeReceived>(delivery)?;
        let session_id = envelope.data.session_id;
        // A code that cannot be opened may be any of the session's.
        let code = seal::open(&self.0.cipher, seal::CODE, &session_id.to_string(), &envelope.data.code);
        let code_sha256 =
            code.ok().map(|code| seal::sha256(larkauth_models::ExposeSecret::expose_secret(&code)));
        self.0.fail_unexchanged(session_id, code_sha256.as_ref()).await?;
        Ok(None)
    }

    /// A refusal needs nothing but the store, so its effect is made up for.
    async fn denial(&self, delivery: &Delivery) -> HandlerResult {
        self.0.take_denial(&decode::<AuthorizationDenied>(delivery)?).await.map_err(HandlerError::from)?;
        Ok(None)
    }

    async fn click(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<CardActionTriggered>(delivery)?;
        if envelope.data.code.is_some() {
            self.0.fail_unexchanged(envelope.data.session_id, None).await?;
        } else {
            tracing::error!(
                "auth.dead_letter: a click had no effect; the session is open, the person can click again"
            );
        }
        Ok(None)
    }
}
