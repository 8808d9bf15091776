//! The one place where a code becomes a token.

use std::time::Duration;

use larkauth_lark::{
    api::CodeGrant,
    error::{ErrorKind, LarkError, Outcome},
};
use larkauth_models::{
    AuthSession, ExposeSecret, FailureReason, Origin, SecretString, SessionState, TokenApi, TokenPair,
};
use larkauth_storage::{ExchangeClaim, SessionEnding, StorageError};
use uuid::Uuid;

use super::{
    deadline::{Received, Step},
    error::ConsentError,
    promote::{Claimed, keep_and_promote, promote},
    retry::retry_transient,
};
use crate::{apps::App, context::Context, seal, worker::WORKER};

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
    /// The event that carried the code, for the audit record.
    pub(super) origin: Origin,
}

/// Exchanges the code and ends the session. Returns the session as it is then. It is still pending if a later code
/// superseded this one, which then had no effect; or if the tokens are in escrow and the exchange is resumed later. An
/// application that is switched off exchanges no code: its session fails.
///
/// The claim is persisted before the code is sent, and marked as sent just before. The first act after Lark's answer is
/// the escrow of the pair. An expired claim whose code was sent and whose pair did not arrive in escrow means that the
/// code may be consumed: the session fails, and the code is not used again.
pub(super) async fn exchange(
    context: &Context,
    session: AuthSession,
    attempt: Attempt,
) -> Result<AuthSession, ConsentError> {
    let Received { at, deadline, .. } = attempt.received;
    if session.state == SessionState::Pending && session.expires_at <= at {
        return Ok(context.end_session(&WORKER, &session, SessionEnding::Expired, attempt.from_card).await?);
    }
    let app = context.apps.get(&session.app_id).await?;
    let claim = context.new_uuid();
    // A code inside a card callback was never bound: its click is answered by itself.
    let bound = (!attempt.from_card).then(|| seal::sha256(attempt.code.expose_secret()));
    let life = context.policy.exchange_claim;
    let pair = match context.store.claim_exchange(session.id, bound.as_ref(), claim, life).await? {
        ExchangeClaim::Claimed => match send(context, &app, &session, &attempt, claim).await? {
            Sent::Answered(pair) => {
                let Attempt { from_card, origin, .. } = attempt;
                let claimed = Claimed { session, claim, pair: *pair, is_escrowed: false, origin };
                return keep_and_promote(context, &app, claimed, deadline, from_card).await;
            }
            Sent::Disabled => {
                tracing::warn!(
                    "auth.exchange.disabled: the application is switched off, the code is not sent"
                );
                let ending = SessionEnding::Failed(FailureReason::AppDisabled);
                return Ok(context.end_session(&WORKER, &session, ending, attempt.from_card).await?);
            }
            Sent::Refused(error) => return refused(context, &session, &attempt, claim, *error).await,
        },
        ExchangeClaim::Escrowed => match context.store.escrowed_pair(session.id, claim).await? {
            Some(pair) => pair,
            None => return Err(taken_over()),
        },
        ExchangeClaim::Superseded => {
            tracing::info!("auth.exchange.superseded: a later code has taken this one's place");
            return Ok(session);
        }
        ExchangeClaim::NotPending => return Ok(context.existing_session(session.id).await?),
        ExchangeClaim::Held { left } => {
            let longest = context.policy.claim_check_interval.max(MIN_CLAIM_CHECK);
            let reason = "another worker is exchanging this code".to_owned();
            return Err(ConsentError::Retry { after: Some(left.clamp(MIN_CLAIM_CHECK, longest)), reason });
        }
        ExchangeClaim::Abandoned => {
            let ending = SessionEnding::Failed(FailureReason::ExchangeOutcomeUnknown);
            return Ok(context.end_session(&WORKER, &session, ending, attempt.from_card).await?);
        }
    };
    let claimed = Claimed { session, claim, pair, is_escrowed: true, origin: attempt.origin };
    promote(context, &app, claimed, deadline, attempt.from_card).await
}

/// Lark's answer to a code.
enum Sent {
    Answered(Box<TokenPair>),
    Refused(Box<LarkError>),
    /// It was not sent, because the application is switched off.
    Disabled,
}

/// Marks the code as sent, and sends it.
///
/// # Errors
/// The store's; the code was not sent.
async fn send(
    context: &Context,
    app: &App,
    session: &AuthSession,
    attempt: &Attempt,
    claim: Uuid,
) -> Result<Sent, ConsentError> {
    let (policy, deadline) = (&context.policy, attempt.received.deadline);
    let until = deadline.end_of(Step::Exchange);
    let mark = || context.store.mark_exchange_sent(session.id, claim);
    let marking = retry_transient(policy.retry, &*context.entropy, until, mark, StorageError::is_transient);
    match deadline.within(Step::Exchange, marking).await {
        Some(marked) => {
            if !marked? {
                // The store has decided. This only finds out why.
                let is_enabled = context.apps.is_enabled_now(&session.app_id).await?;
                return if is_enabled { Err(taken_over()) } else { Ok(Sent::Disabled) };
            }
        }
        None => {
            context.store.release_exchange(session.id, claim).await?;
            let reason = "too little time was left to send the code".to_owned();
            return Err(ConsentError::Retry { after: None, reason });
        }
    }
    let grant = grant(app, session, attempt);
    Ok(match app.client.exchange_code(app.application.token_api, &grant, until).await {
        Ok(pair) => Sent::Answered(Box::new(pair.with_scopes_unless_named(&session.scopes))),
        Err(error) => Sent::Refused(Box::new(error)),
    })
}

fn taken_over() -> ConsentError {
    ConsentError::Retry { after: None, reason: "another worker has taken the exchange over".to_owned() }
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
    Ok(context.end_session(&WORKER, session, SessionEnding::Failed(reason), attempt.from_card).await?)
}
