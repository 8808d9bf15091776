use std::time::Duration;

use chrono::TimeDelta;
use larkauth_messaging::BusError;
use larkauth_models::{Actor, Timestamp};
use larkauth_storage::{ProfileCursor, StorageError, TokenRisks};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, error::AuthError};

/// Rows that one statement of a purge deletes, as a multiple of [`Policy::sweep_batch`](crate::Policy::sweep_batch): they
/// are many and nothing else is done for each.
const PURGE_BATCHES: u32 = 10;
/// The spans in which consents that end are counted, in days: people are asked within 14 days, and an operator looks at those
/// who have not answered within 3.
const ENDING_CONSENTS: [(&str, i64); 2] = [("3d", 3), ("14d", 14)];

impl Context {
    /// Expires the sessions whose time is over and announces each. Returns their number.
    ///
    /// # Errors
    /// The store's. An announcement that fails is left to [`Context::announce_ends`].
    pub async fn expire_sessions(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "session.expire_due");
        let batch = self.policy.sweep_batch;
        let mut expired = 0;
        loop {
            let ids = self.store.expire_due_sessions(now, batch).await?;
            expired += ids.len() as u64;
            for id in &ids {
                if stopping.is_cancelled() {
                    return Ok(expired);
                }
                if let Err(error) = self.after_end(*id, false).await {
                    tracing::warn!(session_id = %id, %error, "auth.session.announce: left to the sweep");
                }
            }
            if ids.len() < batch as usize {
                return Ok(expired);
            }
        }
    }

    /// Announces the ends that are older than [`Policy::announce_grace`](crate::Policy::announce_grace) and not announced,
    /// because a process stopped or the bus was down. Oldest first, until none is left. Returns their number.
    ///
    /// # Errors
    /// The store's; and the bus's while it is down, which ends the run. An end that the bus refuses does not delay others.
    pub async fn announce_ends(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "session.announce_ends");
        let before = now - delta(self.policy.announce_grace);
        let batch = self.policy.sweep_batch;
        let (mut after, mut announced) = (None, 0);
        loop {
            let ends = self.store.unannounced_ends(before, after, batch).await?;
            for end in &ends {
                if stopping.is_cancelled() {
                    return Ok(announced);
                }
                match self.announce_late(end).await {
                    Ok(()) => announced += 1,
                    Err(AuthError::Bus(error @ BusError::Refused { .. })) => {
                        tracing::error!(session_id = %end.id, %error, "auth.session.announce: left to the next run");
                    }
                    Err(error) => return Err(error),
                }
            }
            after = ends.last().map(larkauth_storage::UnannouncedEnd::cursor);
            if ends.len() < batch as usize {
                return Ok(announced);
            }
        }
    }

    /// Finds ended sessions whose card does not show the end, because a process stopped in between, and requests an update
    /// of each. The cards whose last request is the oldest come first. Returns their number.
    ///
    /// # Errors
    /// The store's or the bus's.
    pub async fn reconcile_cards(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "card.reconcile");
        let oldest = now - delta(self.policy.card_reconcile_window);
        let newest = now - delta(self.policy.card_grace);
        let due = self.store.claim_unreconciled_cards(now, oldest, newest, self.policy.sweep_batch).await?;
        let mut requested = 0;
        for (app_id, session_id) in &due {
            if stopping.is_cancelled() {
                break;
            }
            self.request_card_face(app_id, *session_id, self.policy.after_answer_delay).await?;
            requested += 1;
        }
        Ok(requested)
    }

    /// Deletes records of handled events that are too old to be pushed again. Returns their number.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge_events(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "event.purge");
        let before = now - delta(self.policy.event_retention);
        self.purge(stopping, |limit| self.store.purge_processed(before, limit)).await
    }

    /// Deletes ended sessions that are older than [`Policy::session_retention`](crate::Policy::session_retention). Returns
    /// their number.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge_sessions(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "session.purge");
        let before = now - delta(self.policy.session_retention);
        self.purge(stopping, |limit| self.store.purge_sessions(before, limit)).await
    }

    /// Deletes audit records that are older than [`Policy::audit_retention`](crate::Policy::audit_retention). Returns their
    /// number.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge_audit(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "audit.purge");
        let before = now - delta(self.policy.audit_retention);
        self.purge(stopping, |limit| self.store.purge_audit(before, limit)).await
    }

    /// Deletes the profiles of people who have neither a token nor a session any more. Looks at all profiles, page by page.
    /// Returns the number of deleted ones.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge_profiles(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "profile.purge");
        let (mut deleted, mut after) = (0, ProfileCursor::default());
        while !stopping.is_cancelled() {
            let page = self.store.purge_profiles(&after, self.policy.sweep_batch).await?;
            deleted += page.deleted;
            let Some(last) = page.last else { break };
            after = last;
        }
        Ok(deleted)
    }

    /// Deletes batch by batch until a batch is not full, or the process stops.
    async fn purge<F: Future<Output = Result<u64, StorageError>>>(
        &self,
        stopping: &CancellationToken,
        delete: impl Fn(u32) -> F,
    ) -> Result<u64, AuthError> {
        let batch = PURGE_BATCHES * self.policy.sweep_batch;
        let mut deleted = 0;
        while !stopping.is_cancelled() {
            let some = delete(batch).await?;
            deleted += some;
            if some < u64::from(batch) {
                break;
            }
        }
        Ok(deleted)
    }

    /// Updates the gauges of sessions, tokens and applications.
    ///
    /// # Errors
    /// The store's.
    pub async fn update_gauges(&self, now: Timestamp) -> Result<(), AuthError> {
        for counts in self.store.active_counts().await? {
            self.metrics.sessions_active(counts.app_id.as_str(), counts.pending_sessions);
            self.metrics.tokens_active(counts.app_id.as_str(), counts.active_tokens);
            self.metrics.tokens_suspended(counts.app_id.as_str(), counts.suspended_tokens);
        }
        let risks = self.store.token_risks().await?;
        for TokenRisks { app_id, outcome_unknown, next_refresh_at, is_frozen } in &risks {
            let app_id = app_id.as_str();
            let overdue = next_refresh_at.and_then(|at| (now - at).to_std().ok()).unwrap_or_default();
            self.metrics.tokens_outcome_unknown(app_id, *outcome_unknown);
            self.metrics.token_refresh_overdue(app_id, overdue);
            self.metrics.breaker_open(app_id, *is_frozen);
        }
        for (within, days) in ENDING_CONSENTS {
            let ending = self.store.ending_consents(now, now + TimeDelta::days(days)).await?;
            for TokenRisks { app_id, .. } in &risks {
                let people = ending.iter().find(|(of, _)| of == app_id).map_or(0, |(_, people)| *people);
                self.metrics.consents_ending(app_id.as_str(), within, people);
            }
        }
        Ok(())
    }
}

/// Returns the largest difference of times when the duration is longer.
fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
