//! A pass over all people.
//!
//! The last look at each person is stored, so a pass needs no other memory: what it has left are the people who were not
//! looked up since it began. A process that stops leaves them to the next minute, in any process.

use std::sync::Arc;

use chrono::TimeDelta;
use larkauth_lark::error::{ErrorKind, LarkError};
use larkauth_models::{Actor, AppId, Timestamp};
use larkauth_storage::MAX_CLOCK_LEAD;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{apps::App, context::Context, error::AuthError};

/// Name under which the beginning of a pass is claimed. With the id of an application, its end for that application.
pub(super) const PASS: &str = "user_info_pass";

impl Context {
    /// Begins a pass over all people when its time has come, and goes on with the one that has begun, for
    /// [`UserSyncPolicy::run`](crate::UserSyncPolicy::run) at most. Returns the number of people who were looked up.
    ///
    /// # Errors
    /// The store's. What Lark refuses ends the run of the application concerned.
    pub async fn sync_people(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        if !self.policy.user_sync.enabled {
            return Ok(0);
        }
        self.note_operation(actor, now, "people.sync");
        let Some(pass) = self.current_pass(now).await? else { return Ok(0) };
        let until = Instant::now() + self.policy.user_sync.run;
        let mut looked = 0;
        for registration in self.store.applications().await? {
            let app = match self.apps.get_for_invitation(&registration.app_id).await {
                Ok(app) => app,
                // Disabled, refused by Lark, or not readable: the others go on.
                Err(error) => {
                    tracing::debug!(app_id = %registration.app_id, %error, "auth.people.sync: left out");
                    continue;
                }
            };
            looked += self.sync_application(actor, &app, pass, until, stopping).await?;
        }
        Ok(looked)
    }

    /// Returns when the current pass began. The time of a pass is claimed, so that it begins once, in one process.
    async fn current_pass(&self, now: Timestamp) -> Result<Option<Timestamp>, AuthError> {
        let policy = &self.policy.user_sync;
        let window = TimeDelta::from_std(policy.begin_window).unwrap_or(TimeDelta::MAX);
        if let Some(tick) = policy.schedule.last_until(now)
            && now - tick <= window
            && self.store.claim_tick(PASS, tick, now).await?
        {
            tracing::info!(%tick, "auth.people.sync: a pass over all people begins");
        }
        // A pass of the future comes from a clock that was wrong, and would never end.
        Ok(self.store.last_tick(PASS).await?.filter(|pass| *pass <= now))
    }

    async fn sync_application(
        &self,
        actor: &Actor,
        app: &Arc<App>,
        pass: Timestamp,
        until: Instant,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        let (app_id, policy) = (&app.application.app_id, &self.policy.user_sync);
        // The end of a pass of the future comes from a clock that was wrong.
        let counts = |ended: Timestamp| ended >= pass && ended <= self.now() + MAX_CLOCK_LEAD;
        if self.store.last_tick(&end_of(app_id)).await?.is_some_and(counts) {
            return Ok(0);
        }
        let mut looked = 0;
        while !stopping.is_cancelled() && Instant::now() < until {
            let people = self.store.people_to_sync(app_id, pass, self.now(), policy.batch).await?;
            if people.is_empty() {
                self.end_pass(app_id, pass, "done").await?;
                break;
            }
            match self.look_up(actor, app, &people, pass).await {
                Ok(()) => looked += people.len() as u64,
                Err(AuthError::Lark(error)) => {
                    self.pass_failed(app_id, pass, &error).await?;
                    break;
                }
                Err(error) => return Err(error),
            }
            stopping.run_until_cancelled(sleep(policy.pause)).await;
        }
        let left = self.store.count_to_sync(app_id, pass).await?;
        self.metrics.user_sync_left(app_id.as_str(), i64::try_from(left).unwrap_or(i64::MAX));
        tracing::info!(%app_id, looked, left, "auth.people.sync");
        Ok(looked)
    }

    /// Ends the pass of an application. Returns false when that has happened already.
    async fn end_pass(
        &self,
        app_id: &AppId,
        pass: Timestamp,
        outcome: &'static str,
    ) -> Result<bool, AuthError> {
        let is_first = self.store.claim_tick(&end_of(app_id), pass, self.now()).await?;
        if is_first {
            self.metrics.user_sync_ended(app_id.as_str(), outcome);
            tracing::info!(%app_id, %pass, outcome, "auth.people.sync: the pass has ended");
        }
        Ok(is_first)
    }

    /// Reacts to a refused call. No failure of a call says anything about a person.
    async fn pass_failed(&self, app_id: &AppId, pass: Timestamp, error: &LarkError) -> Result<(), AuthError> {
        match error.kind {
            ErrorKind::App => self.apps.breaker().open(app_id, &error.to_string(), self.now()).await,
            ErrorKind::InsufficientScope { .. } => {
                if self.end_pass(app_id, pass, "no_permission").await? {
                    tracing::error!(
                        %app_id, %error,
                        "auth.people.sync: the application may not read the contacts, and people who left are not noticed; \
                         add the permissions contact:contact.base:readonly and contact:user.employee:readonly in the \
                         developer console and publish a version, or set USER_INFO_SYNC_ENABLED=false"
                    );
                }
                Ok(())
            }
            _ => {
                tracing::warn!(%app_id, %error, "auth.people.sync: goes on with the next run");
                Ok(())
            }
        }
    }
}

fn end_of(app_id: &AppId) -> String {
    format!("{PASS}/{app_id}")
}
