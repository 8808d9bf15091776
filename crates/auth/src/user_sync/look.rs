//! A look at one person after a refresh of the token, which needs no permission of the application.

use std::sync::Arc;

use chrono::TimeDelta;
use larkauth_lark::error::{ErrorKind, LarkError};
use larkauth_models::{Actor, Lane, OpenId, SecretString, StoredToken, SuspensionReason};
use tokio::time::timeout;

use crate::{apps::App, context::Context, error::AuthError};

/// The actor of what such a look finds.
const REFRESH: Actor = Actor::service("refresh");
/// Codes of user info that tell the state of the account.
const RESIGNED: i64 = 20_021;
const FROZEN: i64 = 20_022;

impl Context {
    /// Looks the owner of a new token up, when the last look is older than
    /// [`UserSyncPolicy::refresh_interval`](crate::UserSyncPolicy::refresh_interval). Delays no one: a look that fails, or has no
    /// room, is left to the next pass.
    pub(crate) fn look_after_refresh(&self, app: &Arc<App>, token: &StoredToken) {
        let policy = &self.policy.user_sync;
        if !policy.enabled {
            return;
        }
        // The new pair comes from Lark, so that it is readable.
        let Some(access_token) = token.pair.access_token.readable().cloned() else { return };
        let Ok(permit) = self.looks.clone().try_acquire_owned() else { return };
        let (context, app, deadline) = (self.clone(), app.clone(), policy.refresh_look);
        let open_id = token.open_id.clone();
        self.refreshing.spawn(async move {
            let _permit = permit;
            let app_id = app.application.app_id.clone();
            match timeout(deadline, context.look_at(&app, &open_id, &access_token)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::info!(%app_id, %error, "auth.people.look: left to the next pass"),
                Err(_) => {
                    tracing::info!(%app_id, "auth.people.look: no answer in time, left to the next pass");
                }
            }
        });
    }

    async fn look_at(
        &self,
        app: &App,
        open_id: &OpenId,
        access_token: &SecretString,
    ) -> Result<(), AuthError> {
        let (app_id, now) = (&app.application.app_id, self.now());
        let interval = TimeDelta::from_std(self.policy.user_sync.refresh_interval).unwrap_or(TimeDelta::MAX);
        if !self.store.claim_sync(app_id, open_id, now - interval, now).await? {
            return Ok(());
        }
        match app.client.in_lane(Lane::Background).user_info(access_token).await {
            Ok(profile) if profile.open_id == *open_id => {
                self.metrics.user_synced(app_id.as_str(), "found", 1);
                Ok(self.store.store_synced(app_id, &[profile], &[], now).await?)
            }
            Ok(_) => {
                tracing::error!(%app_id, "auth.people.look: Lark calls another person the owner of a token");
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::User => {
                self.suspend_person(&REFRESH, app_id, open_id, reason_of(&error)).await
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn reason_of(error: &LarkError) -> SuspensionReason {
    match error.code {
        Some(RESIGNED) => SuspensionReason::Resigned,
        Some(FROZEN) => SuspensionReason::Frozen,
        _ => SuspensionReason::Refused,
    }
}
