use async_trait::async_trait;
use larkauth_contracts::message::{AuthorizationCodeReceived, AuthorizationDenied, Message, Reply};
use larkauth_messaging::{Delivery, Handler, Verdict};
use larkauth_models::SessionState;
use larkauth_storage::SessionEnding;

use super::{Handled, Trouble, decode, may_be_half_done, verdict};
use crate::{
    Context,
    consent::{self, Budget},
    seal,
};

/// Handles what the browser brought back: exchanges the code or notes the refusal. The waiting gateway gets an empty
/// reply as soon as the session has ended.
pub(super) struct OauthRedirectHandler(pub(super) Context);

const CONSUMER: &str = "oauth-redirects";

#[async_trait]
impl Handler for OauthRedirectHandler {
    async fn handle(&self, delivery: Delivery) -> Verdict {
        let handled = match delivery.r#type.as_str() {
            AuthorizationCodeReceived::TYPE => self.code(&delivery).await,
            AuthorizationDenied::TYPE => self.denied(&delivery).await,
            _ => Err(Trouble::Dead("a message type this queue does not know".to_owned())),
        };
        verdict(handled)
    }
}

const LOOK_NOW: Reply = Reply { answer: None, shows: None };

impl OauthRedirectHandler {
    async fn code(&self, delivery: &Delivery) -> Handled {
        let budget = Budget::begin();
        let context = &self.0;
        let envelope = decode::<AuthorizationCodeReceived>(delivery)?;
        if context.store.is_processed(CONSUMER, &envelope.id).await? {
            return Ok(Some(LOOK_NOW));
        }
        let session = context.existing(envelope.data.session_id).await?;
        let code = seal::open(&context.cipher, seal::CODE, &session.id.to_string(), &envelope.data.code)?;
        let attempt = consent::Attempt {
            code,
            from_card: false,
            received_at: envelope.time,
            may_be_half_done: may_be_half_done(delivery),
            budget,
        };
        let session = consent::run(context, session, attempt).await?;
        if session.state == SessionState::Pending {
            // Superseded. Nothing happened that could be remembered: a reloaded page may make it the session's code again.
            return Ok(Some(LOOK_NOW));
        }
        context.store.mark_processed(CONSUMER, &envelope.id, context.now()).await?;
        Ok(Some(LOOK_NOW))
    }

    async fn denied(&self, delivery: &Delivery) -> Handled {
        let context = &self.0;
        let envelope = decode::<AuthorizationDenied>(delivery)?;
        if context.store.is_processed(CONSUMER, &envelope.id).await? {
            return Ok(Some(LOOK_NOW));
        }
        let session = context.existing(envelope.data.session_id).await?;
        if session.state == SessionState::Pending {
            context.end(session.id, SessionEnding::Rejected, false).await?;
        } else if may_be_half_done(delivery) {
            context.announce_end(&session, false).await?;
        }
        context.store.mark_processed(CONSUMER, &envelope.id, context.now()).await?;
        Ok(Some(LOOK_NOW))
    }
}
