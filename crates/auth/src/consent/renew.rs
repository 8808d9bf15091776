//! A pair of a consent that came without an access token.

use larkauth_lark::error::{ErrorKind, LarkError};
use larkauth_models::{AuthSession, FailureReason, TokenPair};
use larkauth_storage::{StorageError, seal_escrow};
use uuid::Uuid;

use super::{
    deadline::{Deadline, Step},
    identity::Unidentified,
    retry::retry_transient,
};
use crate::{apps::App, context::Context, refresh_schedule::ACCESS_LIFE};

/// Returns a pair with an access token, without which it is unknown who consented. A pair that has none is refreshed, at most
/// once a call; the new pair takes its place in escrow. The resumption of the exchange repeats it: until the session expires
/// while Lark gives no access token, and for the life of an access token more while Lark gives no answer.
///
/// # Errors
/// Without an access token.
pub(super) async fn with_access_token(
    context: &Context,
    app: &App,
    session: &AuthSession,
    claim: Uuid,
    pair: TokenPair,
    deadline: Deadline,
) -> Result<TokenPair, Unidentified> {
    if pair.has_access_token() {
        return Ok(pair);
    }
    let Some(refresh_token) = &pair.refresh_token else {
        return Err(Unidentified::Failed(FailureReason::UpstreamUnavailable));
    };
    tracing::warn!("auth.exchange.renew: Lark gave a refresh token without a usable access token");
    let until = deadline.end_of(Step::Exchange);
    let renewed = app.client.refresh(app.application.token_api, refresh_token, until).await;
    let longest = session.expires_at + ACCESS_LIFE;
    let renewed = renewed.map_err(|error| refused(&error, context.now() >= longest))?;
    let renewed = renewed.with_scopes_unless_named(&pair.scopes);
    keep(context, session, claim, &renewed, deadline).await?;
    if renewed.has_access_token() {
        return Ok(renewed);
    }
    if context.now() >= session.expires_at {
        tracing::warn!("auth.exchange.renew: Lark gave no usable access token until the session expired");
        return Err(Unidentified::Failed(FailureReason::UpstreamUnavailable));
    }
    Err(Unidentified::Later("Lark gave no usable access token again".to_owned()))
}

/// Puts the renewed pair in escrow. A store that does not take it is logged: the caller goes on with the pair in memory.
///
/// # Errors
/// When another caller has the exchange.
async fn keep(
    context: &Context,
    session: &AuthSession,
    claim: Uuid,
    pair: &TokenPair,
    deadline: Deadline,
) -> Result<(), Unidentified> {
    let sealed = seal_escrow(&context.cipher, session.id, pair)
        .map_err(|error| Unidentified::Later(error.to_string()))?;
    let until = deadline.end_of(Step::Commit);
    let put = || context.store.replace_escrow(session.id, claim, &sealed);
    let putting =
        retry_transient(context.policy.retry, &*context.entropy, until, put, StorageError::is_transient);
    match deadline.within(Step::Commit, putting).await {
        Some(Ok(true)) => {}
        Some(Ok(false)) => return Err(Unidentified::Later("another caller has the exchange".to_owned())),
        Some(Err(error)) => tracing::error!(%error, "auth.exchange.renew: the tokens are in memory only"),
        None => tracing::error!("auth.exchange.renew: no answer in time, the tokens are in memory only"),
    }
    Ok(())
}

fn refused(error: &LarkError, is_last: bool) -> Unidentified {
    if error.is_retryable() && !is_last {
        return Unidentified::Later(error.to_string());
    }
    tracing::warn!(%error, "auth.exchange.renew");
    Unidentified::Failed(match error.kind {
        // An earlier attempt used it up, and its answer was lost.
        ErrorKind::RefreshTokenInvalid | ErrorKind::InvalidGrant => FailureReason::ExchangeOutcomeUnknown,
        ErrorKind::User | ErrorKind::AccessDenied => FailureReason::UserUnavailable,
        ErrorKind::App | ErrorKind::InvalidRequest | ErrorKind::InsufficientScope { .. } => {
            FailureReason::AppMisconfigured
        }
        _ => FailureReason::UpstreamUnavailable,
    })
}
