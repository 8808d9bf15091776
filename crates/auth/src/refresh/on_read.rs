//! Refreshing because a caller needs the token.

use std::time::Duration;

use larkauth_models::{AppId, OpenId, StoredToken, TokenKind, TokenStatus};
use larkauth_storage::{LeasedToken, MAX_CLOCK_LEAD, RefreshClaim, RefreshEnd};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::attempt::{Attempt, attempt};
use crate::{context::Context, error::AuthError, refresh_schedule::is_nearly_over, side_effect::SideEffect};

/// Shortest wait that a caller is told.
const A_SECOND: Duration = Duration::from_secs(1);

impl Context {
    /// Returns whether a caller should have this token refreshed before it is served: it is not valid long enough; or no
    /// failure asks for a pause, and little of its life is left, or it was stored while the clock was ahead, so that its end is
    /// unknown.
    pub(crate) fn wants_refresh(&self, token: &StoredToken, is_servable: bool) -> bool {
        let now = self.now();
        let pauses = token.failures > 0 && token.next_attempt_at.is_some_and(|next| next > now);
        let is_of_the_future = token.issued_at > now + MAX_CLOCK_LEAD;
        let is_due = is_nearly_over(token, now) || is_of_the_future;
        token.is_refreshable() && (!is_servable || (is_due && !pauses))
    }

    /// Refreshes a token, or waits for the result of the caller that does. Returns the token of a newer generation.
    ///
    /// # Errors
    /// [`AuthError::AuthenticationRequired`] when the token cannot be refreshed any more,
    /// [`AuthError::RefreshInProgress`] and [`AuthError::UpstreamUnavailable`] when it may be later,
    /// [`AuthError::AppFrozen`] while Lark refuses the application; the store's.
    pub(crate) async fn newer_token(&self, old: &StoredToken) -> Result<StoredToken, AuthError> {
        let (app_id, open_id) = (&old.app_id, &old.open_id);
        let app = self.apps.get_for_invitation(app_id).await?;
        if let Some(wait) = self.pause_of(old) {
            return Err(AuthError::UpstreamUnavailable { retry_after: wait });
        }
        let until = Instant::now() + self.policy.refresh_wait;
        let mut poll = self.policy.session_poll;
        loop {
            let (owner, life) = (self.new_uuid(), self.policy.refresh_lease);
            // Counted from before the lease, so that no call is under way when it ends.
            let deadline = Instant::now() + self.policy.refresh_call;
            let claim = self.store.claim_refresh(app_id, open_id, owner, life);
            match self.step(SideEffect::Lease, claim).await? {
                RefreshClaim::Leased(leased) if is_not_of(old, &leased) => {
                    // Refreshed since this caller read it, or its pair is still on its way to the store. The lease is given
                    // back unused.
                    return newer_than(old, self.give_back(*leased, owner).await?);
                }
                RefreshClaim::Leased(leased) => {
                    let (context, app, used_at) = (self.clone(), app.clone(), self.now());
                    let task = self.refreshing.spawn(async move {
                        let client = app.client.clone();
                        attempt(&context, app, &client, *leased, used_at, owner, deadline).await
                    });
                    return match timeout_at(until, task).await {
                        Ok(Ok(Ok(Attempt::Refreshed(token)))) => Ok(*token),
                        Ok(Ok(Ok(Attempt::Ended))) => self.result_of_other(old).await,
                        Ok(Ok(Ok(Attempt::Postponed { after }))) => {
                            Err(AuthError::UpstreamUnavailable { retry_after: after })
                        }
                        Ok(Ok(Ok(Attempt::AppRefused { after }))) => {
                            let frozen = self.apps.get_for_invitation(app_id).await.err();
                            Err(frozen.unwrap_or(AuthError::UpstreamUnavailable { retry_after: after }))
                        }
                        Ok(Ok(Ok(Attempt::Unreadable(why)))) => Err(AuthError::SecretUnreadable(why)),
                        Ok(Ok(Err(error))) => Err(error),
                        // It goes on; a panic ends the lease by its time.
                        Ok(Err(_)) | Err(_) => Err(AuthError::RefreshInProgress { retry_after: A_SECOND }),
                    };
                }
                RefreshClaim::NotRefreshable => return self.result_of_other(old).await,
                RefreshClaim::Held { left } => {
                    let pause = poll.next(&*self.entropy).min(left.max(Duration::from_millis(10)));
                    if Instant::now() + pause >= until {
                        return Err(AuthError::RefreshInProgress { retry_after: A_SECOND });
                    }
                    sleep(pause).await;
                    let now = self.current(app_id, open_id).await?;
                    if now.generation != old.generation {
                        return newer_than(old, now);
                    }
                    if let Some(wait) = self.pause_of(&now) {
                        return Err(AuthError::UpstreamUnavailable { retry_after: wait });
                    }
                }
            }
        }
    }

    /// Returns the rest of the pause after a failure.
    fn pause_of(&self, token: &StoredToken) -> Option<Duration> {
        let next = token.next_attempt_at.filter(|_| token.failures > 0)?;
        (next - self.now()).to_std().ok().filter(|wait| !wait.is_zero())
    }

    async fn give_back(&self, leased: LeasedToken, owner: Uuid) -> Result<StoredToken, AuthError> {
        let token = leased.token;
        let end = RefreshEnd {
            status: if leased.was_interrupted { TokenStatus::OutcomeUnknown } else { token.status },
            failures: token.failures,
            next_attempt_at: token.next_attempt_at,
        };
        let ended = self.store.end_refresh(&token.app_id, &token.open_id, owner, end);
        self.step(SideEffect::EndLease, ended).await?;
        Ok(token)
    }

    /// Returns what another caller made of the token.
    async fn result_of_other(&self, old: &StoredToken) -> Result<StoredToken, AuthError> {
        let now = self.current(&old.app_id, &old.open_id).await?;
        // The end of an attempt that lost its lease says nothing about a token that can still be refreshed.
        if now.generation == old.generation && !now.is_refreshable() {
            return Err(AuthError::AuthenticationRequired);
        }
        newer_than(old, now)
    }

    async fn current(&self, app_id: &AppId, open_id: &OpenId) -> Result<StoredToken, AuthError> {
        let token = self.store.token(app_id, open_id, TokenKind::User).await?;
        token.ok_or(AuthError::AuthenticationRequired)
    }

    /// Waits until the refreshes that have begun are finished.
    pub async fn finish_refreshes(&self) {
        self.refreshing.close();
        self.refreshing.wait().await;
    }
}

/// Returns whether the leased token was refreshed since the caller read it, or is older because its new pair is on its way. An older
/// one whose last refresh has ended is all there is: the caller knows a token from before an erasure.
fn is_not_of(old: &StoredToken, leased: &LeasedToken) -> bool {
    let token = &leased.token;
    let is_on_its_way = leased.was_interrupted || token.status == TokenStatus::OutcomeUnknown;
    token.generation > old.generation || (token.generation < old.generation && is_on_its_way)
}

/// Returns the token if it is newer than the caller's. One without an access token is refreshed again soon. An older one is about
/// to be replaced: the newer pair is on its way to the store.
fn newer_than(old: &StoredToken, now: StoredToken) -> Result<StoredToken, AuthError> {
    if now.generation > old.generation && now.pair.lacks_access_token() {
        return Err(AuthError::UpstreamUnavailable { retry_after: A_SECOND });
    }
    if now.generation > old.generation {
        return Ok(now);
    }
    Err(AuthError::RefreshInProgress { retry_after: A_SECOND })
}
