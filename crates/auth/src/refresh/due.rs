//! Refreshing because the time has come.

use std::time::Duration;

use chrono::TimeDelta;
use futures::{StreamExt, stream};
use larkauth_lark::api::EndpointClass;
use larkauth_models::{Actor, AppId, Lane, Timestamp};
use larkauth_storage::{DueApplication, LeasedToken};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::attempt::{Attempt, attempt};
use crate::{context::Context, error::AuthError, side_effect::SideEffect};

/// Applications whose tokens one process refreshes at once.
const APPLICATIONS: usize = 256;
/// Refreshes of one application that one process waits for at once.
const IN_FLIGHT: usize = 64;
/// Pause between two reservations of calls: a few calls of the rate limit, so that they are reserved together.
const PAUSE: Duration = Duration::from_millis(240);
/// How long after its time a reserved call may still be made. Then it waits for another one.
const LATEST: Duration = Duration::from_millis(150);

impl Context {
    /// Refreshes the tokens that are due, of all applications side by side, each in the order of
    /// [`DueOrder`](larkauth_storage::DueOrder) and as fast as its rate limit permits. Returns the number of new pairs.
    /// Any number of processes may do so at once: each takes other tokens.
    ///
    /// # Errors
    /// The store's. A token that cannot be refreshed is logged and does not delay the others, and neither does an
    /// application.
    pub async fn refresh_due_tokens(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "token.refresh_due");
        let until = Instant::now() + self.policy.refresh_run;
        let frozen_before = now - TimeDelta::from_std(self.policy.breaker_open).unwrap_or(TimeDelta::MAX);
        let mut due = self.store.due_applications(now, frozen_before, self.policy.refresh_batch).await?;
        // With more applications than run at once, another one begins each time.
        let first = (self.entropy.fraction() * due.len() as f64) as usize;
        let last = due.len().saturating_sub(1);
        due.rotate_left(first.min(last));
        let mut runs = stream::iter(due)
            .map(|application| self.refresh_due_of(application, until, stopping))
            .buffer_unordered(APPLICATIONS);
        let (mut refreshed, mut failed) = (0, None);
        while let Some((some, result)) = runs.next().await {
            refreshed += some;
            failed = result.err().or(failed);
        }
        failed.map_or(Ok(refreshed), Err)
    }

    /// Refreshes the due tokens of one application until none is due or the time is over. Calls are reserved first, and as
    /// many tokens are taken as there are calls: no lease is held by a token that waits for the rate limit.
    async fn refresh_due_of(
        &self,
        application: DueApplication,
        until: Instant,
        stopping: &CancellationToken,
    ) -> (u64, Result<(), AuthError>) {
        let DueApplication { app_id, due } = application;
        let batch = self.policy.refresh_batch;
        // The tokens that are known to be due; `None` when there are more than were counted.
        let mut known = Some(due).filter(|due| *due < batch);
        let (mut running, mut run) = (JoinSet::new(), Run::default());
        let result = loop {
            while let Some(done) = running.try_join_next() {
                run.note(done);
            }
            if run.is_app_refused {
                // Every other token would be refused for the same reason.
                break Ok(());
            }
            if running.len() >= IN_FLIGHT {
                if let Some(done) = running.join_next().await {
                    run.note(done);
                }
                continue;
            }
            match self.take_due(&app_id, known.unwrap_or(batch)).await {
                Ok(Taken::Tokens { tokens, owner, deadline, is_last }) => {
                    let taken = u32::try_from(tokens.len()).unwrap_or(batch);
                    known = known.map(|known| known.saturating_sub(taken));
                    for (leased, slot) in tokens {
                        let context = self.clone();
                        running
                            .spawn(async move { context.refresh_due(leased, owner, slot, deadline).await });
                    }
                    if is_last || known == Some(0) {
                        break Ok(());
                    }
                    if !pause(PAUSE, until, stopping).await {
                        break Ok(());
                    }
                }
                Ok(Taken::NoCalls { retry_after }) => {
                    if !pause(retry_after.max(PAUSE), until, stopping).await {
                        break Ok(());
                    }
                }
                Err(error) => break Err(error),
            }
        };
        while let Some(done) = running.join_next().await {
            run.note(done);
        }
        (run.refreshed, result)
    }

    /// Reserves calls, and takes as many due tokens.
    async fn take_due(&self, app_id: &AppId, wanted: u32) -> Result<Taken, AuthError> {
        let limiter = &self.lark().rate_limiter;
        let slots = match limiter.reserve(app_id, EndpointClass::Token, wanted).await {
            Ok(slots) => slots,
            Err(exceeded) => return Ok(Taken::NoCalls { retry_after: exceeded.retry_after }),
        };
        let (owner, life) = (self.new_uuid(), self.policy.refresh_lease);
        let limit = u32::try_from(slots.len()).unwrap_or(wanted);
        let order = self.policy.refresh.order(self.now());
        // Counted from before the leases, so that no call is under way when they end.
        let deadline = Instant::now() + self.policy.refresh_call;
        let claim = self.store.claim_due_refreshes(app_id, &order, owner, life, limit);
        let leased = self.step(SideEffect::Lease, claim).await?;
        let is_last = leased.len() < slots.len();
        Ok(Taken::Tokens { tokens: leased.into_iter().zip(slots).collect(), owner, deadline, is_last })
    }

    /// Refreshes one token when its call may be made.
    async fn refresh_due(self, leased: LeasedToken, owner: Uuid, slot: Instant, deadline: Instant) -> Done {
        let app_id = leased.token.app_id.clone();
        let app = match self.apps.get_enabled(&app_id).await {
            Ok(app) => app,
            // The lease ends by its time.
            Err(error) => {
                tracing::warn!(%app_id, %error, "auth.token.refresh: left to the next run");
                return Done::NotRefreshed;
            }
        };
        sleep_until(slot).await;
        self.note_lag(&leased);
        let client = if slot.elapsed() > LATEST {
            app.client.in_lane(Lane::Background)
        } else {
            app.client.reserved()
        };
        // In a task of its own, so that a job that is cancelled does not lose an answer.
        let context = self.clone();
        // Until its first use the consent counts as one: the caller that asked for it is waiting.
        let used_at = leased.token.last_used_at.unwrap_or(leased.token.granted_at);
        let task = self
            .refreshing
            .spawn(async move { attempt(&context, app, &client, leased, used_at, owner, deadline).await });
        match task.await {
            Ok(Ok(Attempt::Refreshed(_))) => Done::Refreshed,
            Ok(Ok(Attempt::AppRefused { .. })) => Done::AppRefused,
            Ok(Ok(Attempt::Ended | Attempt::Postponed { .. } | Attempt::Unreadable(_))) => Done::NotRefreshed,
            Ok(Err(error)) => {
                tracing::warn!(%app_id, %error, "auth.token.refresh: left to the next run");
                Done::NotRefreshed
            }
            Err(error) => {
                tracing::error!(%app_id, panicked = error.is_panic(), "auth.token.refresh: the task ended");
                Done::NotRefreshed
            }
        }
    }

    /// Records how long the token was due, and whether it is too late for a part of it.
    fn note_lag(&self, leased: &LeasedToken) {
        let (now, token) = (self.now(), &leased.token);
        let app_id = token.app_id.as_str();
        if let Some(lag) = token.next_attempt_at.and_then(|due_at| (now - due_at).to_std().ok()) {
            self.metrics.token_refresh_lag(app_id, lag);
        }
        if token.pair.refresh_expires_at.is_some_and(|end| end <= now) {
            self.metrics.token_refresh_late(app_id, "login");
        } else if self.policy.refresh.keeps_access(token, now) && token.pair.access_expires_at <= now {
            self.metrics.token_refresh_late(app_id, "access_token");
        }
    }
}

/// How the refresh of one due token ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Refreshed,
    NotRefreshed,
    /// Lark refuses the application.
    AppRefused,
}

/// What the refreshes of one application came to so far.
#[derive(Default)]
struct Run {
    refreshed: u64,
    is_app_refused: bool,
}

impl Run {
    fn note(&mut self, done: Result<Done, JoinError>) {
        let done = done.unwrap_or(Done::NotRefreshed);
        self.refreshed += u64::from(done == Done::Refreshed);
        self.is_app_refused |= done == Done::AppRefused;
    }
}

/// Tokens with the times of their calls, or none.
enum Taken {
    Tokens { tokens: Vec<(LeasedToken, Instant)>, owner: Uuid, deadline: Instant, is_last: bool },
    NoCalls { retry_after: Duration },
}

/// Pauses unless the time is over first. Returns whether to go on.
async fn pause(pause: Duration, until: Instant, stopping: &CancellationToken) -> bool {
    Instant::now() + pause < until && stopping.run_until_cancelled(sleep(pause)).await.is_some()
}
