use async_trait::async_trait;
use larkauth_contracts::message::{AuthorizationCodeReceived, AuthorizationDenied, Message, Reply};
use larkauth_messaging::{Delivery, Disposition, Handler};

use super::{
    decode::{decode, received},
    error::{HandlerError, HandlerResult, into_disposition},
};
use crate::context::Context;

/// Handles what the redirect of the consent page carried: a code or a refusal. The gateway waits for the empty reply, and
/// then reads the session.
pub(super) struct OauthRedirectHandler(pub(super) Context);

const EMPTY_REPLY: Reply = Reply { answer: None, shows: None, unknown_session: false };

#[async_trait]
impl Handler for OauthRedirectHandler {
    async fn handle(&self, delivery: Delivery) -> Disposition {
        let result = match delivery.r#type.as_str() {
            AuthorizationCodeReceived::TYPE => self.code(&delivery).await,
            AuthorizationDenied::TYPE => self.denied(&delivery).await,
            _ => Err(HandlerError::unknown_type()),
        };
        into_disposition(result)
    }
}

impl OauthRedirectHandler {
    async fn code(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<AuthorizationCodeReceived>(delivery)?;
        let received = received(self.0.policy(), delivery, &envelope);
        self.0.take_code(&envelope, received).await?;
        Ok(Some(EMPTY_REPLY))
    }

    async fn denied(&self, delivery: &Delivery) -> HandlerResult {
        let envelope = decode::<AuthorizationDenied>(delivery)?;
        self.0.take_denial(&envelope).await?;
        Ok(Some(EMPTY_REPLY))
    }
}
