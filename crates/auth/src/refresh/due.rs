//! Refreshing because the time has come.

use chrono::TimeDelta;
use futures::{StreamExt, stream};
use larkauth_models::{Actor, Timestamp};
use larkauth_storage::LeasedToken;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempt::{Attempt, attempt};
use crate::{context::Context, error::AuthError, side_effect::SideEffect};

/// Refreshes of one process at once.
const CONCURRENCY: usize = 16;

impl Context {
    /// Refreshes the tokens that are due, those first that are due longest. Returns the number of new pairs. Any number of
    /// processes may do so at once: each takes other tokens.
    ///
    /// # Errors
    /// The store's. A token that cannot be refreshed is logged and does not delay the others.
    pub async fn refresh_due_tokens(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "token.refresh_due");
        let until = Instant::now() + self.policy.refresh_run;
        let mut refreshed = 0;
        loop {
            let now = self.now();
            let frozen_before = now - TimeDelta::from_std(self.policy.breaker_open).unwrap_or(TimeDelta::MAX);
            let (owner, life, limit) =
                (self.new_uuid(), self.policy.refresh_lease, self.policy.refresh_batch);
            let claim = self.store.claim_due_refreshes(now, frozen_before, owner, life, limit);
            let due = self.step(SideEffect::Lease, claim).await?;
            let is_last = due.len() < limit as usize;
            let deadline = Instant::now() + self.policy.refresh_call;
            refreshed += stream::iter(due)
                .map(|leased| self.refresh_due(leased, owner, deadline))
                .buffer_unordered(CONCURRENCY)
                .filter(|is_refreshed| std::future::ready(*is_refreshed))
                .count()
                .await as u64;
            if is_last || stopping.is_cancelled() || Instant::now() >= until {
                return Ok(refreshed);
            }
        }
    }

    async fn refresh_due(&self, leased: LeasedToken, owner: Uuid, deadline: Instant) -> bool {
        let (app_id, due_at) = (leased.token.app_id.clone(), leased.token.next_attempt_at);
        if let Some(lag) = due_at.and_then(|due_at| (self.now() - due_at).to_std().ok()) {
            self.metrics.token_refresh_lag(app_id.as_str(), lag);
        }
        let app = match self.apps.get_enabled(&app_id).await {
            Ok(app) => app,
            // The lease ends by its time.
            Err(error) => {
                tracing::warn!(%app_id, %error, "auth.token.refresh: left to the next run");
                return false;
            }
        };
        // In a task of its own, so that a job that is cancelled does not lose an answer.
        let context = self.clone();
        // Until its first use the consent counts as one: the caller that asked for it is waiting.
        let used_at = leased.token.last_used_at.unwrap_or(leased.token.granted_at);
        let task = self
            .refreshing
            .spawn(async move { attempt(&context, app, leased, used_at, owner, deadline).await });
        match task.await {
            Ok(Ok(Attempt::Refreshed(_))) => true,
            Ok(Ok(Attempt::Ended | Attempt::Postponed { .. } | Attempt::Unreadable(_))) => false,
            Ok(Err(error)) => {
                tracing::warn!(%app_id, %error, "auth.token.refresh: left to the next run");
                false
            }
            Err(error) => {
                tracing::error!(%app_id, panicked = error.is_panic(), "auth.token.refresh: the task ended");
                false
            }
        }
    }
}
