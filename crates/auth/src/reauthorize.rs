//! Asking people again whose token has ended, or ends soon.

use std::sync::Arc;

use chrono::TimeDelta;
use larkauth_models::{
    Actor, AuthMethod, CardOptions, OpenId, Person, ReauthorizationReason, StoredToken, Timestamp, TokenKind,
    TokenStatus,
};
use larkauth_storage::StorageError;
use tokio_util::sync::CancellationToken;

use crate::{
    apps::App,
    context::Context,
    error::AuthError,
    sessions::{Invite, scopes_to_ask_for},
};

impl Context {
    /// Asks people again: those whose token has ended, and in working hours those whose consent ends soon. A token that was in use
    /// is a reason to ask at any hour. Of each application at most [`ReauthorizePolicy::batch`](crate::ReauthorizePolicy::batch)
    /// people are asked in one run, and none while Lark refuses it. Returns the number of new invitations.
    ///
    /// # Errors
    /// The store's or the bus's, which end the run. Who was not asked then is asked by a later one.
    pub async fn reauthorize(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        if !self.policy.reauthorize.enabled {
            return Ok(0);
        }
        self.note_operation(actor, now, "people.reauthorize");
        // An operator's fault: no person is asked.
        self.check_encryption_keys().await?;
        let mut asked = 0;
        for registration in self.store.applications().await? {
            let app = match self.apps.get_for_invitation(&registration.app_id).await {
                Ok(app) => app,
                // Disabled, refused by Lark, or not readable: no person's fault, so no person is asked.
                Err(error) => {
                    tracing::debug!(app_id = %registration.app_id, %error, "auth.reauthorize: left out");
                    continue;
                }
            };
            for (open_id, reason) in self.claim_to_ask(&app, now).await? {
                if stopping.is_cancelled() {
                    return Ok(asked);
                }
                match self.ask_again(actor, &app, &open_id, reason).await {
                    Ok(outcome) => {
                        asked += u64::from(outcome == "asked");
                        self.metrics.reauthorization(app.application.app_id.as_str(), outcome);
                    }
                    // Since the run began. The claims end by their time.
                    Err(AuthError::AppFrozen { .. } | AuthError::AppDisabled(_)) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(asked)
    }

    /// Claims the people of an application who are asked in this run.
    async fn claim_to_ask(
        &self,
        app: &App,
        now: Timestamp,
    ) -> Result<Vec<(OpenId, ReauthorizationReason)>, AuthError> {
        let (app_id, policy) = (&app.application.app_id, &self.policy.reauthorize);
        let delta = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        let is_working_time = policy.is_working_time(now);
        let used_after = (!is_working_time).then(|| now - delta(policy.in_use));
        let until = now + delta(policy.claim);
        let ended = self.store.claim_ended(app_id, used_after, now, until, policy.batch).await?;
        let room = policy.batch.saturating_sub(u32::try_from(ended.len()).unwrap_or(u32::MAX));
        let mut people: Vec<_> =
            ended.into_iter().map(|open_id| (open_id, ReauthorizationReason::Ended)).collect();
        if is_working_time && room > 0 {
            let before = policy.granted_before(now);
            let ending = self.store.claim_ending(app_id, before, now, until, room).await?;
            people.extend(ending.into_iter().map(|open_id| (open_id, ReauthorizationReason::EndsSoon)));
        }
        Ok(people)
    }

    /// Asks one person, unless the person has an open card or is to be left in peace, and notes when to look again.
    async fn ask_again(
        &self,
        actor: &Actor,
        app: &Arc<App>,
        open_id: &OpenId,
        reason: ReauthorizationReason,
    ) -> Result<&'static str, AuthError> {
        let (app_id, now, pause) = (&app.application.app_id, self.now(), self.policy.reauthorize.pause);
        let token = match self.store.token(app_id, open_id, TokenKind::User).await {
            Ok(token) => token.filter(|token| self.needs_consent(token, reason, now)),
            Err(error @ (StorageError::Undecryptable { .. } | StorageError::Corrupt { .. })) => {
                tracing::error!(%app_id, %error, "auth.reauthorize: the token cannot be read");
                self.store.set_ask_at(app_id, open_id, now + pause.first).await?;
                return Ok("failed");
            }
            Err(error) => return Err(error.into()),
        };
        let Some(token) = token else { return Ok("not_needed") };
        let invite = Invite {
            app_id: app_id.clone(),
            person: Person { open_id: Some(open_id.clone()), user_id: None },
            auth_method: AuthMethod::WebsocketCard,
            scopes: Some(scopes_to_ask_for(&token.pair.scopes, &app.application.default_scopes)),
            card: CardOptions { reauthorize: Some(reason), ..self.policy.card.clone() },
        };
        let (outcome, ask_at) = match self.invite_or_find(actor, now, invite, pause).await {
            Ok((_, true)) => ("asked", now + pause.first),
            Ok((session, false)) => ("open", session.expires_at),
            Err(AuthError::AskedRecently { retry_after } | AuthError::RateLimited { retry_after, .. }) => {
                ("paused", now + retry_after)
            }
            Err(error @ AuthError::Invalid(_)) => {
                tracing::error!(%app_id, %error, "auth.reauthorize: the person cannot be asked");
                ("failed", now + pause.first)
            }
            Err(error) => return Err(error),
        };
        self.store.set_ask_at(app_id, open_id, ask_at).await?;
        tracing::info!(%app_id, %reason, outcome, "auth.reauthorize");
        Ok(outcome)
    }

    /// Returns whether the reason still holds: the person may have consented since the claim.
    fn needs_consent(&self, token: &StoredToken, reason: ReauthorizationReason, now: Timestamp) -> bool {
        match reason {
            ReauthorizationReason::Ended => token.status == TokenStatus::ReauthorizationRequired,
            ReauthorizationReason::EndsSoon => {
                token.is_refreshable() && token.granted_at < self.policy.reauthorize.granted_before(now)
            }
        }
    }
}
