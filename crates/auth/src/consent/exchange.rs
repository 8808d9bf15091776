//! The one place where a code becomes a token.

use std::time::Duration;

use larkauth_lark::{
    api::CodeGrant,
    error::{ErrorKind, LarkError, Outcome},
};
use larkauth_models::{AuthSession, ExposeSecret, FailureReason, SecretString, SessionState, TokenApi};
use larkauth_storage::{ExchangeClaim, SessionEnding};
use uuid::Uuid;

use super::{
    commit::commit,
    deadline::{Received, Step},
    error::ConsentError,
    identity::{check_identity, consenter},
};
use crate::{apps::App, context::Context, seal};

/// Shortest wait until a delivery whose code another worker exchanges is looked at again.
const MIN_CLAIM_CHECK: Duration = Duration::from_secs(1);

/// A code and how it arrived.
pub(super) struct Attempt {
    /// The code.
    pub(super) code: SecretString,
    /// The code was inside a card callback: no redirect URI and no PKCE belong to it, and the callback waits for its
    /// answer.
    pub(super) from_card: bool,
    /// What is known of the delivery.
    pub(super) received: Received,
}

/// Exchanges the code and ends the session. Returns the session as it is then; it is still pending only if a later code
/// superseded this one, which then had no effect.
///
/// The claim is persisted before the code is sent. An expired claim means that the code may be consumed: the session
/// fails, and the code is not used again.
pub(super) async fn exchange(
    context: &Context,
    session: AuthSession,
    attempt: Attempt,
) -> Result<AuthSession, ConsentError> {
    let Received { at, may_be_repeated, deadline } = attempt.received;
    if session.state == SessionState::Pending && session.expires_at <= at {
        return Ok(context.end_session(session.id, SessionEnding::Expired, attempt.from_card).await?);
    }
    let app = context.apps.get(&session.app_id).await?;
    let now = context.now();
    let claim = context.new_uuid();
    // A code inside a card callback was never bound: its click is answered by itself.
    let bound = (!attempt.from_card).then(|| seal::sha256(attempt.code.expose_secret()));
    let claim_end = now + context.policy.exchange_claim;
    match context.store.claim_exchange(session.id, bound.as_ref(), claim, now, claim_end).await? {
        ExchangeClaim::Claimed => {}
        ExchangeClaim::Superseded => {
            tracing::info!("auth.exchange.superseded: a later code has taken this one's place");
            return Ok(session);
        }
        ExchangeClaim::NotPending => {
            let session = context.existing_session(session.id).await?;
            if may_be_repeated {
                context.publish_end(&session, attempt.from_card).await?;
            }
            return Ok(session);
        }
        ExchangeClaim::Held { until } => {
            let longest = context.policy.claim_check_interval.max(MIN_CLAIM_CHECK);
            let wait = (until - now).to_std().unwrap_or_default().clamp(MIN_CLAIM_CHECK, longest);
            let reason = "another worker is exchanging this code".to_owned();
            return Err(ConsentError::Retry { after: Some(wait), reason });
        }
        ExchangeClaim::Abandoned => {
            let ending = SessionEnding::Failed(FailureReason::ExchangeInterrupted);
            return Ok(context.end_session(session.id, ending, attempt.from_card).await?);
        }
    }
    let (grant, until) = (grant(&app, &session, &attempt), deadline.end_of(Step::Exchange));
    let pair = match app.client.exchange_code(app.application.token_api, &grant, until).await {
        Ok(pair) => pair,
        Err(error) => return refused(context, &session, &attempt, claim, error).await,
    };
    let identified = match consenter(context, deadline, &app, &pair).await {
        Ok(profile) => check_identity(&session, &profile).map(|()| profile),
        Err(reason) => Err(reason),
    };
    let profile = match identified {
        Ok(profile) => profile,
        Err(reason) => {
            let ending = SessionEnding::Failed(reason);
            return Ok(context.end_session(session.id, ending, attempt.from_card).await?);
        }
    };
    commit(context, deadline, &session, claim, pair, profile).await?;
    let session = context.after_end(session.id, attempt.from_card).await?;
    // The tokens are stored. A breaker that could not be closed is closed by the next success.
    if let Err(error) = context.apps.breaker().close(&app, context.now()).await {
        tracing::warn!(%error, "auth.app.breaker_close");
    }
    Ok(session)
}

fn grant(app: &App, session: &AuthSession, attempt: &Attempt) -> CodeGrant {
    let verifier = session.consent.as_ref().map(|consent| consent.pkce_verifier.clone());
    let from_redirect = !attempt.from_card && app.application.token_api == TokenApi::V2;
    CodeGrant {
        code: attempt.code.clone(),
        redirect_uri: app.application.redirect_uri.clone(),
        code_verifier: verifier.filter(|_| from_redirect),
    }
}

/// Handles the answer of a Lark that returned no pair: the delivery is retried while that is safe and the code is valid;
/// otherwise the session fails.
async fn refused(
    context: &Context,
    session: &AuthSession,
    attempt: &Attempt,
    claim: Uuid,
    error: LarkError,
) -> Result<AuthSession, ConsentError> {
    // A lost answer says nothing. With an error code of its own Lark turned the request down; where even then the outcome
    // may be unknown (20050, 20072) Lark wants it repeated, and refuses a code that was consumed all the same.
    let repeatable = error.outcome == Outcome::NotProcessed || error.code.is_some();
    let reason = match error.kind {
        ErrorKind::Transient | ErrorKind::RateLimited | ErrorKind::Unknown if repeatable => {
            let age = (context.now() - attempt.received.at).to_std().unwrap_or_default();
            if age < context.policy.code_lifetime {
                context.store.release_exchange(session.id, claim).await?;
                return Err(error.into());
            }
            FailureReason::UpstreamUnavailable
        }
        ErrorKind::Transient | ErrorKind::RateLimited | ErrorKind::Unknown => {
            FailureReason::ExchangeOutcomeUnknown
        }
        // Lark spells "no permission to use the application" as OAuth's `access_denied`, too.
        ErrorKind::User | ErrorKind::AccessDenied => FailureReason::UserUnavailable,
        ErrorKind::App => {
            context.apps.breaker().open(&session.app_id, &error.to_string(), context.now()).await?;
            FailureReason::AppMisconfigured
        }
        ErrorKind::InvalidRequest | ErrorKind::InsufficientScope { .. } => FailureReason::AppMisconfigured,
        ErrorKind::InvalidGrant if attempt.received.may_be_repeated => FailureReason::ExchangeOutcomeUnknown,
        _ => FailureReason::CodeInvalid,
    };
    match reason {
        FailureReason::AppMisconfigured => tracing::error!(%error, "auth.exchange.refused"),
        _ => tracing::warn!(%error, %reason, "auth.exchange.refused"),
    }
    Ok(context.end_session(session.id, SessionEnding::Failed(reason), attempt.from_card).await?)
}
