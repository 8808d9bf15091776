//! The redirect's code or refusal, as the worker handles it.

use larkauth_contracts::message::{AuthorizationCodeReceived, AuthorizationDenied, Envelope};
use larkauth_models::SessionState;
use larkauth_storage::SessionEnding;

use super::{
    deadline::Received,
    error::ConsentError,
    exchange::{Attempt, exchange},
};
use crate::{context::Context, seal};

/// Name under which handled redirects are remembered.
const CONSUMER: &str = "oauth-redirects";

impl Context {
    /// Exchanges the code that a redirect carried. A repeated message has no second effect.
    pub(crate) async fn take_code(
        &self,
        message: &Envelope<AuthorizationCodeReceived>,
        received: Received,
    ) -> Result<(), ConsentError> {
        if self.store.is_processed(CONSUMER, &message.id).await? {
            return Ok(());
        }
        let session = self.named_session(&message.appid, message.data.session_id).await?;
        let code = seal::open(&self.cipher, seal::CODE, &session.id.to_string(), &message.data.code)?;
        let session = exchange(self, session, Attempt { code, from_card: false, received }).await?;
        // A superseded code had no effect that could be recorded: a reloaded page may make it the session's code again.
        if session.state != SessionState::Pending {
            self.store.mark_processed(CONSUMER, &message.id, self.now()).await?;
        }
        Ok(())
    }

    /// Ends the session whose person declined on the consent page. A repeated message has no second effect.
    pub(crate) async fn take_denial(
        &self,
        message: &Envelope<AuthorizationDenied>,
    ) -> Result<(), ConsentError> {
        if self.store.is_processed(CONSUMER, &message.id).await? {
            return Ok(());
        }
        let session = self.named_session(&message.appid, message.data.session_id).await?;
        if session.state == SessionState::Pending {
            self.end_session(session.id, SessionEnding::Rejected, false).await?;
        }
        self.store.mark_processed(CONSUMER, &message.id, self.now()).await?;
        Ok(())
    }
}
