//! Exchanges that their worker did not finish.

use futures::future::join_all;
use larkauth_models::{Actor, FailureReason, Origin, SessionId, Timestamp};
use larkauth_storage::{ExchangeClaim, SessionEnding};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    deadline::Deadline,
    error::ConsentError,
    promote::{Claimed, promote},
};
use crate::{context::Context, error::AuthError, worker::WORKER};

/// Exchanges that one process resumes at once.
const CONCURRENCY: usize = 16;

impl Context {
    /// Resumes the exchanges whose code was sent and whose claim has expired. A session whose tokens are in escrow is
    /// completed once Lark says who consented; a session without them fails, because its code may be consumed. Returns
    /// the number of ended sessions.
    ///
    /// # Errors
    /// The store's. An exchange that cannot be resumed is logged and does not delay the others.
    pub async fn resume_exchanges(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "session.resume_exchanges");
        let ids = self.store.unfinished_exchanges(self.policy.sweep_batch).await?;
        let mut ended = 0;
        for some in ids.chunks(CONCURRENCY) {
            if stopping.is_cancelled() {
                break;
            }
            for (id, resumed) in
                some.iter().zip(join_all(some.iter().map(|id| self.resume_unclaimed(*id))).await)
            {
                match resumed {
                    Ok(has_ended) => ended += u64::from(has_ended),
                    Err(error) => {
                        tracing::warn!(session_id = %id, %error, "auth.exchange.resume: left to the next run");
                    }
                }
            }
        }
        Ok(ended)
    }

    async fn resume_unclaimed(&self, id: SessionId) -> Result<bool, ConsentError> {
        self.resume_exchange(id, self.new_uuid()).await
    }

    /// Resumes the exchange of one session under a claim, unless another caller has it. Returns whether the session has
    /// ended.
    pub(crate) async fn resume_exchange(&self, id: SessionId, claim: Uuid) -> Result<bool, ConsentError> {
        let deadline = Deadline::resume(&self.policy);
        let session = self.existing_session(id).await?;
        match self.store.claim_exchange(id, None, claim, self.policy.exchange_claim).await? {
            ExchangeClaim::Escrowed => {
                let app = self.apps.get(&session.app_id).await?;
                let Some(pair) = self.store.escrowed_pair(id, claim).await? else { return Ok(false) };
                let origin = Origin::default();
                let claimed = Claimed { session, claim, pair, is_escrowed: true, origin };
                Ok(promote(self, &app, claimed, deadline, false).await?.state.is_final())
            }
            ExchangeClaim::Abandoned => {
                let ending = SessionEnding::Failed(FailureReason::ExchangeOutcomeUnknown);
                Ok(self.end_session(&WORKER, &session, ending, false).await?.state.is_final())
            }
            ExchangeClaim::Claimed => {
                // The code was given back in the meantime; its next delivery exchanges it.
                self.store.release_exchange(id, claim).await?;
                Ok(false)
            }
            ExchangeClaim::NotPending => Ok(true),
            ExchangeClaim::Held { .. } | ExchangeClaim::Superseded => Ok(false),
        }
    }
}
