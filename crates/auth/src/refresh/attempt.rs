//! One refresh under a lease.

use std::{sync::Arc, time::Duration};

use larkauth_contracts::message::EscrowPlace;
use larkauth_lark::{
    LarkClient,
    error::{ErrorKind, LarkError},
};
use larkauth_models::{StoredSecret, StoredToken, Timestamp, TokenPair, TokenStatus, UnreadableSecret};
use larkauth_storage::{LeasedToken, RefreshEnd, seal_refreshed};
use tokio::time::Instant;
use uuid::Uuid;

use super::decision::{Decision, Next, decide};
use crate::{apps::App, context::Context, error::AuthError, escrow::Kept, side_effect::SideEffect};

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// Lark gave a whole new pair. It is stored, or on its way to the store.
    Refreshed(Box<StoredToken>),
    /// Lark refuses this token or this person for good.
    Ended,
    /// A later attempt may succeed.
    Postponed {
        /// The wait until it.
        after: Duration,
    },
    /// Lark refuses the application, whose breaker is open now. A later attempt may succeed.
    AppRefused {
        /// The wait until it.
        after: Duration,
    },
    /// The refresh token cannot be read, which is an operator's fault: nothing was sent, and nothing ended.
    Unreadable(UnreadableSecret),
}

/// Sends the refresh token of a token that was last used then, and writes down what became of it. Runs to its end in a task
/// of its own: a caller that stops waiting does not interrupt it.
///
/// # Errors
/// The store's. The lease then ends by its time, and the next holder knows that the refresh token may be used up.
pub(super) async fn attempt(
    context: &Context,
    app: Arc<App>,
    client: &LarkClient,
    leased: LeasedToken,
    last_used_at: Timestamp,
    owner: Uuid,
    deadline: Instant,
) -> Result<Attempt, AuthError> {
    let LeasedToken { token, was_interrupted } = leased;
    let app_id = token.app_id.clone();
    let refresh_token = match &token.pair.refresh_token {
        Some(StoredSecret::Readable(refresh_token)) => refresh_token,
        Some(StoredSecret::Unreadable(why)) => {
            return give_up_unreadable(context, &token, was_interrupted, owner, why).await;
        }
        None => {
            let end = RefreshEnd { status: token.status, failures: token.failures, next_attempt_at: None };
            let ended = context.store.end_refresh(&app_id, &token.open_id, owner, end);
            context.step(SideEffect::EndLease, ended).await?;
            return Ok(Attempt::Ended);
        }
    };
    let call = client.refresh(app.application.token_api, refresh_token, deadline);
    match context.step(SideEffect::Call, call).await {
        Ok(pair) => {
            let kept = keep(context, token, pair, last_used_at).await;
            // A breaker that could not be closed is closed by the next success.
            let close = context.apps.breaker().close(&app, context.now());
            if let Err(error) = context.step(SideEffect::CloseBreaker, close).await {
                tracing::warn!(%error, "auth.app.breaker_close");
            }
            if let Ok(Attempt::Refreshed(token)) = &kept {
                context.look_after_refresh(&app, token);
            }
            kept
        }
        Err(error) => refused(context, &token, was_interrupted, owner, error).await,
    }
}

/// Keeps the new pair: in the store, else on the bus, else in the spool.
async fn keep(
    context: &Context,
    old: StoredToken,
    pair: TokenPair,
    last_used_at: Timestamp,
) -> Result<Attempt, AuthError> {
    let pair = pair.with_scopes_unless_named(&old.pair.scopes);
    let has_access_token = pair.has_access_token();
    let sealed = seal_refreshed(&context.cipher, &old.app_id, &old.open_id, &pair)?;
    let place = EscrowPlace::Token { open_id: old.open_id.clone(), generation: old.generation, last_used_at };
    let outcome = match context.keep_pair(&old.app_id, place, &sealed).await {
        Kept::Yes if !has_access_token => "no_access_token",
        Kept::Yes => "ok",
        Kept::Nowhere => "not_kept",
        Kept::Unwanted => {
            // Revoked, or the person consented anew, while the answer was on its way.
            context.metrics.token_refreshed(old.app_id.as_str(), "unwanted");
            return Ok(Attempt::Ended);
        }
    };
    context.metrics.token_refreshed(old.app_id.as_str(), outcome);
    tracing::info!(app_id = %old.app_id, generation = old.generation + 1, outcome, "auth.token.refreshed");
    if !has_access_token {
        tracing::warn!(
            app_id = %old.app_id,
            "auth.token.refreshed: Lark gave a refresh token without a usable access token, it is refreshed again"
        );
        return Ok(Attempt::Postponed { after: context.pause_after(old.failures.saturating_add(1)) });
    }
    let now = context.now();
    Ok(Attempt::Refreshed(Box::new(StoredToken {
        pair: pair.into(),
        issued_at: now,
        generation: old.generation + 1,
        status: TokenStatus::Active,
        failures: 0,
        ..old
    })))
}

/// Gives the lease back for a while in which a process with the right key, or an operator, has its chance. The token stays
/// as it is.
async fn give_up_unreadable(
    context: &Context,
    token: &StoredToken,
    was_interrupted: bool,
    owner: Uuid,
    why: &UnreadableSecret,
) -> Result<Attempt, AuthError> {
    context.report_unreadable(why);
    let (status, next_attempt_at) = match token.status {
        TokenStatus::Suspended => (TokenStatus::Suspended, token.next_attempt_at),
        status => (
            if was_interrupted { TokenStatus::OutcomeUnknown } else { status },
            Some(context.now() + context.policy.unreadable_pause),
        ),
    };
    let end = RefreshEnd { status, failures: token.failures, next_attempt_at };
    let ended = context.store.end_refresh(&token.app_id, &token.open_id, owner, end);
    let ended = context.step(SideEffect::EndLease, ended).await;
    context.reads.tokens.forget(token.open_id.as_str());
    if ended? {
        context.metrics.token_refreshed(token.app_id.as_str(), "unreadable");
    }
    Ok(Attempt::Unreadable(why.clone()))
}

/// Ends an attempt without a new pair. An error hits the token, the person or the application that it belongs to.
async fn refused(
    context: &Context,
    token: &StoredToken,
    was_interrupted: bool,
    owner: Uuid,
    error: LarkError,
) -> Result<Attempt, AuthError> {
    let app_id = &token.app_id;
    let Decision { outcome, status, failures, next } =
        decide(token.status, token.failures, was_interrupted, &error);
    let after = match next {
        Next::Never => None,
        Next::Backoff => Some(context.pause_after(failures)),
        Next::Arrival => Some(context.policy.refresh_lease * 2),
        Next::RateLimit => {
            Some(error.retry_after.unwrap_or(context.policy.refresh_retry.longest(&*context.entropy)))
        }
        Next::Breaker => {
            let reason = error.to_string();
            let open = context.apps.breaker().open(app_id, &reason, context.now());
            context.step(SideEffect::OpenBreaker, open).await?;
            Some(context.policy.breaker_open)
        }
    };
    match outcome {
        "app_refused" => {}
        "failed" if matches!(error.kind, ErrorKind::InvalidRequest) => {
            tracing::error!(%app_id, %error, "auth.token.refresh: Lark does not take the request");
        }
        _ => tracing::warn!(%app_id, %error, outcome, failures, "auth.token.refresh"),
    }
    let next_attempt_at = after.map(|after| context.now() + after);
    let end = RefreshEnd { status, failures, next_attempt_at };
    let ended = context.store.end_refresh(app_id, &token.open_id, owner, end);
    let ended = context.step(SideEffect::EndLease, ended).await;
    context.reads.tokens.forget(token.open_id.as_str());
    if ended? {
        context.metrics.token_refreshed(app_id.as_str(), outcome);
        if status == TokenStatus::Suspended && token.status != TokenStatus::Suspended {
            context.note_suspended(app_id, &token.open_id);
        }
    }
    Ok(match after {
        None => Attempt::Ended,
        Some(after) if next == Next::Breaker => Attempt::AppRefused { after },
        Some(after) => Attempt::Postponed { after },
    })
}

impl Context {
    /// Returns the pause of a token after so many failures in a row.
    pub(crate) fn pause_after(&self, failures: u32) -> Duration {
        self.policy.refresh_retry.nth(failures.saturating_sub(1), &*self.entropy)
    }
}
