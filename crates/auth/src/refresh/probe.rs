//! Refreshing a suspended token, to find out whether Lark accepts the person again.

use std::sync::Arc;

use larkauth_models::{Lane, OpenId};
use tokio::time::Instant;

use super::attempt::{Attempt, attempt};
use crate::{apps::App, context::Context, error::AuthError, side_effect::SideEffect};

impl Context {
    /// Refreshes the token of a suspended person. Returns whether Lark gave a new pair, which is stored then; the token stays
    /// suspended. A token that Lark calls used up becomes one that needs a consent.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn refresh_suspended(
        &self,
        app: &Arc<App>,
        open_id: &OpenId,
    ) -> Result<bool, AuthError> {
        let (app_id, owner, life) = (&app.application.app_id, self.new_uuid(), self.policy.refresh_lease);
        let deadline = Instant::now() + self.policy.refresh_call;
        let claim = self.store.claim_suspended(app_id, open_id, owner, life);
        let Some(leased) = self.step(SideEffect::Lease, claim).await? else {
            return Ok(false);
        };
        let (context, app, client) = (self.clone(), app.clone(), app.client.in_lane(Lane::Background));
        let used_at = leased.token.last_used_at.unwrap_or(leased.token.granted_at);
        let task = self
            .refreshing
            .spawn(async move { attempt(&context, app, &client, leased, used_at, owner, deadline).await });
        match task.await {
            Ok(ended) => Ok(matches!(ended?, Attempt::Refreshed(_))),
            Err(error) => {
                tracing::error!(panicked = error.is_panic(), "auth.token.refresh: the task ended");
                Ok(false)
            }
        }
    }
}
