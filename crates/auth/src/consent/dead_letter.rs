//! Sessions whose message became a dead letter.

use larkauth_models::{FailureReason, SessionId, SessionState};
use larkauth_storage::{ExchangeClaim, SessionEnding};

use super::error::ConsentError;
use crate::{context::Context, error::AuthError, worker::WORKER};

impl Context {
    /// Fails the session of an invitation that no one handles any more, unless its card was sent.
    pub(crate) async fn fail_unsent(&self, id: SessionId) -> Result<(), AuthError> {
        let Some(session) = self.store.session(id).await? else { return Ok(()) };
        if session.state == SessionState::Pending && session.message_id.is_none() {
            tracing::error!("auth.dead_letter: the card will not be sent, the session fails");
            let ending = SessionEnding::Failed(FailureReason::CardUndeliverable);
            self.end_session(&WORKER, &session, ending, false).await?;
        }
        Ok(())
    }

    /// Ends the session of a code that no one exchanges any more. Tokens in escrow are stored all the same; a code that was
    /// sent may be consumed. For a code that Lark never got, larkauth is the reason, not Lark: Lark's refusals end the session
    /// long before a delivery is a dead letter. `code_sha256` is the hash of the code: a session that has a later code goes on.
    pub(crate) async fn fail_unexchanged(
        &self,
        id: SessionId,
        code_sha256: Option<&[u8; 32]>,
    ) -> Result<(), ConsentError> {
        let Some(session) = self.store.session(id).await? else { return Ok(()) };
        let claim = self.new_uuid();
        match self.store.claim_exchange(id, code_sha256, claim, self.policy.exchange_claim).await? {
            ExchangeClaim::Claimed => {
                tracing::error!("auth.dead_letter: the code will not be exchanged, the session fails");
                let ending = SessionEnding::Failed(FailureReason::ServiceUnavailable);
                self.end_session(&WORKER, &session, ending, false).await?;
            }
            ExchangeClaim::Escrowed => {
                self.resume_exchange(id, claim).await?;
            }
            ExchangeClaim::Abandoned => {
                let ending = SessionEnding::Failed(FailureReason::ExchangeOutcomeUnknown);
                self.end_session(&WORKER, &session, ending, false).await?;
            }
            ExchangeClaim::Held { left } => {
                let reason = "another worker is exchanging this code".to_owned();
                return Err(ConsentError::Retry { after: Some(left), reason });
            }
            ExchangeClaim::NotPending | ExchangeClaim::Superseded => {}
        }
        Ok(())
    }
}
