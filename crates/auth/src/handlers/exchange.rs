//! The one place where a code becomes a token and where a session ends.

use std::time::Duration;

use chrono::TimeDelta;
use larkauth_lark::{
    api::CodeGrant,
    error::{ErrorKind, LarkError, Outcome},
};
use larkauth_models::{
    AuthSession, ExposeSecret, FailureReason, SecretString, SessionState, Timestamp, TokenApi, TokenPair,
    UserProfile,
};
use larkauth_storage::{Completion, ExchangeClaim, SessionEnding, StorageError};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    HANDLER_DEADLINE, Trouble, USER_ID_PERMISSION,
    budget::{Budget, Step},
};
use crate::{App, Context, seal};

/// A code in hand.
pub(super) struct Attempt {
    /// The code.
    pub(super) code: SecretString,
    /// It came inside a card callback: no redirect URI and no PKCE belong to it, and the callback waits for its answer.
    pub(super) from_card: bool,
    /// When it came; it lives 5 minutes.
    pub(super) received_at: Timestamp,
    /// Somebody may have begun with it before, or even sent the code.
    pub(super) may_be_half_done: bool,
    /// The time there is for it.
    pub(super) budget: Budget,
}

/// Longer than a delivery can take, by more than the clocks of two machines differ.
const CLAIM: TimeDelta = TimeDelta::seconds(60);
const _: () = assert!(CLAIM.num_seconds() >= HANDLER_DEADLINE.as_secs().cast_signed() + 30);
/// Lark's codes live 5 minutes; nearer to that end trying again makes no sense.
const CODE_LIFE: TimeDelta = TimeDelta::seconds(270);
/// How often a delivery whose code somebody else is exchanging comes back to look.
const HELD_CHECK: Duration = Duration::from_secs(8);

/// Exchanges the code and ends the session one way or the other; gives the session as it is then. It is still pending
/// only if the code was superseded, and nothing happened.
///
/// The claim is written down before the code leaves the house. Whoever finds an abandoned claim knows that the code may
/// be used up and ends the session visibly, instead of using the code again.
pub(super) async fn run(
    context: &Context,
    session: AuthSession,
    attempt: Attempt,
) -> Result<AuthSession, Trouble> {
    if session.state == SessionState::Pending && session.expires_at <= attempt.received_at {
        return Ok(context.end(session.id, SessionEnding::Expired, attempt.from_card).await?);
    }
    let app = context.apps.any(&session.app_id).await?;
    let now = context.now();
    let claim = context.entropy.uuid(&*context.clock);
    // A code out of a card callback was never bound: its click is answered for itself.
    let bound = (!attempt.from_card).then(|| seal::sha256(attempt.code.expose_secret()));
    match context.store.claim_exchange(session.id, bound.as_ref(), claim, now, now + CLAIM).await? {
        ExchangeClaim::Claimed => {}
        ExchangeClaim::Superseded => {
            tracing::info!("auth.exchange.superseded: a later code has taken this one's place");
            return Ok(session);
        }
        ExchangeClaim::NotPending => {
            let session = context.existing(session.id).await?;
            if attempt.may_be_half_done {
                context.announce_end(&session, attempt.from_card).await?;
            }
            return Ok(session);
        }
        ExchangeClaim::Held { until } => {
            let wait = (until - now).to_std().unwrap_or_default().clamp(Duration::from_secs(1), HELD_CHECK);
            return Err(Trouble::later(wait, "another worker is exchanging this code"));
        }
        ExchangeClaim::Abandoned => {
            let ending = SessionEnding::Failed(FailureReason::ExchangeInterrupted);
            return Ok(context.end(session.id, ending, attempt.from_card).await?);
        }
    }
    let (grant, until) = (grant(&app, &session, &attempt), attempt.budget.end_of(Step::Exchange));
    let pair = match app.client.exchange_code(app.application.token_api, &grant, until).await {
        Ok(pair) => pair,
        Err(error) => return refused(context, &session, &attempt, claim, error).await,
    };
    let profile = match who_consented(context, attempt.budget, &app, &pair).await {
        Ok(profile) => profile,
        Err(reason) => {
            let ending = SessionEnding::Failed(reason);
            return Ok(context.end(session.id, ending, attempt.from_card).await?);
        }
    };
    if let Err(reason) = is_the_one_asked(&session, &profile) {
        return Ok(context.end(session.id, SessionEnding::Failed(reason), attempt.from_card).await?);
    }
    commit(context, attempt.budget, &session, claim, pair, profile).await?;
    let session = context.ended(session.id, attempt.from_card).await?;
    // The tokens came first; if this fails the next success tries again.
    if let Err(error) = context.apps.thaw(&app, context.now()).await {
        tracing::warn!(%error, "auth.app.thaw");
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

/// Lark did not give a pair: try again while that is safe and makes sense, else end the session with the reason.
async fn refused(
    context: &Context,
    session: &AuthSession,
    attempt: &Attempt,
    claim: Uuid,
    error: LarkError,
) -> Result<AuthSession, Trouble> {
    // Silence says nothing. With a number of its own Lark turned the request down; where even then the outcome may be
    // unknown (20050, 20072) Lark wants it repeated, and a code that was used up all the same is refused then.
    let repeatable = error.outcome == Outcome::NotProcessed || error.code.is_some();
    let reason = match error.kind {
        ErrorKind::Transient | ErrorKind::RateLimited | ErrorKind::Unknown if repeatable => {
            if context.now() - attempt.received_at < CODE_LIFE {
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
            context.apps.freeze(&session.app_id, &error.to_string(), context.now()).await?;
            FailureReason::AppMisconfigured
        }
        ErrorKind::InvalidRequest | ErrorKind::InsufficientScope { .. } => FailureReason::AppMisconfigured,
        ErrorKind::InvalidGrant if attempt.may_be_half_done => FailureReason::ExchangeOutcomeUnknown,
        _ => FailureReason::CodeInvalid,
    };
    match reason {
        FailureReason::AppMisconfigured => tracing::error!(%error, "auth.exchange.refused"),
        _ => tracing::warn!(%error, %reason, "auth.exchange.refused"),
    }
    Ok(context.end(session.id, SessionEnding::Failed(reason), attempt.from_card).await?)
}

/// The pair exists only here: asking who it belongs to is repeated for a while before it is given up.
async fn who_consented(
    context: &Context,
    budget: Budget,
    app: &App,
    pair: &TokenPair,
) -> Result<UserProfile, FailureReason> {
    let ask = || app.client.user_info(&pair.access_token);
    let asking = patiently(context, budget.end_of(Step::Consenter), ask, LarkError::is_retryable);
    let Some(answer) = budget.within(Step::Consenter, asking).await else {
        tracing::warn!("auth.exchange.user_info: Lark did not say in time who consented");
        return Err(FailureReason::UpstreamUnavailable);
    };
    answer.map_err(|error| {
        tracing::warn!(%error, "auth.exchange.user_info");
        match error.kind {
            ErrorKind::User => FailureReason::UserUnavailable,
            _ => FailureReason::UpstreamUnavailable,
        }
    })
}

fn is_the_one_asked(session: &AuthSession, profile: &UserProfile) -> Result<(), FailureReason> {
    match session.person.is(&profile.open_id, profile.user_id.as_ref()) {
        Some(true) => Ok(()),
        Some(false) => {
            tracing::warn!("auth.exchange.identity_mismatch: somebody else consented, nothing is stored");
            Err(FailureReason::IdentityMismatch)
        }
        None => {
            tracing::error!(
                "auth.exchange.identity_unknown: Lark does not tell the user id by which this person was asked, nothing \
                 is stored; {USER_ID_PERMISSION}"
            );
            Err(FailureReason::AppMisconfigured)
        }
    }
}

async fn commit(
    context: &Context,
    budget: Budget,
    session: &AuthSession,
    claim: Uuid,
    pair: TokenPair,
    profile: UserProfile,
) -> Result<(), Trouble> {
    let completion = Completion { session_id: session.id, claim, pair, profile, now: context.now() };
    let store = || context.store.complete_session(&completion);
    let storing = patiently(context, budget.end_of(Step::Commit), store, StorageError::is_transient);
    let Some(stored) = budget.within(Step::Commit, storing).await else {
        return Err(Trouble::Retry {
            after: None,
            reason: "the tokens could not be stored in time".to_owned(),
        });
    };
    if stored? {
        return Ok(());
    }
    // Somebody ended the session under a live claim: only possible for a lost answer to this very commit.
    match context.existing(session.id).await?.state {
        SessionState::Completed => Ok(()),
        state => Err(Trouble::later(
            Duration::from_secs(1),
            &format!("the session became {state} during the exchange"),
        )),
    }
}

/// Repeats a call while its error is one that passes, and there is time for one more.
async fn patiently<T, E, F: Future<Output = Result<T, E>>>(
    context: &Context,
    until: Instant,
    call: impl Fn() -> F,
    passes: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut pause = Duration::from_millis(200);
    loop {
        match call().await {
            Err(error) if passes(&error) && Instant::now() + pause < until => {
                tokio::time::sleep(context.entropy.jitter(pause, 0.2)).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            result => return result,
        }
    }
}
