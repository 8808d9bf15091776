//! From a token pair to the end of its session. Every step can be repeated.

use larkauth_contracts::message::EscrowPlace;
use larkauth_models::{Actor, AuthSession, FailureReason, Origin, Principal, TokenPair};
use larkauth_storage::{SessionEnding, seal_escrow};
use uuid::Uuid;

use super::{
    commit::commit,
    deadline::Deadline,
    error::ConsentError,
    identity::{Unidentified, check_identity, consenter},
    renew::with_access_token,
};
use crate::{apps::App, context::Context, escrow::Kept, worker::WORKER};

/// A token pair, and the claim under which it may be stored.
pub(super) struct Claimed {
    /// The session, as it was read before the claim.
    pub(super) session: AuthSession,
    /// The claim.
    pub(super) claim: Uuid,
    /// The pair.
    pub(super) pair: TokenPair,
    /// The pair is in escrow, in the store or on its way there.
    pub(super) is_escrowed: bool,
    /// The event that carried the code, unless the exchange is resumed; for the audit record.
    pub(super) origin: Origin,
}

/// Puts a pair that Lark has just given in escrow, and promotes it. Returns the session as it is then.
///
/// # Errors
/// As [`promote`]; and when the pair cannot be sealed.
pub(super) async fn keep_and_promote(
    context: &Context,
    app: &App,
    claimed: Claimed,
    deadline: Deadline,
    answer_pending: bool,
) -> Result<AuthSession, ConsentError> {
    let (session_id, claim) = (claimed.session.id, claimed.claim);
    let sealed = seal_escrow(&context.cipher, session_id, &claimed.pair)?;
    let place = EscrowPlace::Session { session_id, claim };
    match context.keep_pair(&claimed.session.app_id, place, &sealed).await {
        Kept::Unwanted => Ok(context.existing_session(session_id).await?),
        kept => {
            let claimed = Claimed { is_escrowed: kept == Kept::Yes, ..claimed };
            promote(context, app, claimed, deadline, answer_pending).await
        }
    }
}

/// What became of a pair.
enum Promotion {
    /// It is stored.
    Stored,
    /// It is not stored, now or later.
    Refused(FailureReason),
    /// It could not be stored now, for a reason for the log.
    Postponed(String),
}

/// Learns who consented, then stores the pair, or wipes it. Returns the session as it is then: it is still pending when
/// the pair is in escrow and could not be stored now.
///
/// # Errors
/// The store's; and when a pair that is not in escrow could not be stored.
pub(super) async fn promote(
    context: &Context,
    app: &App,
    claimed: Claimed,
    deadline: Deadline,
    answer_pending: bool,
) -> Result<AuthSession, ConsentError> {
    let Claimed { session, claim, pair, is_escrowed, origin } = claimed;
    match try_to_store(context, app, &session, claim, pair, deadline, origin).await {
        Promotion::Stored => {
            let session = context.after_end(session.id, answer_pending).await?;
            // The tokens are stored. A breaker that could not be closed is closed by the next success.
            if let Err(error) = context.apps.breaker().close(app, context.now()).await {
                tracing::warn!(%error, "auth.app.breaker_close");
            }
            Ok(session)
        }
        Promotion::Refused(reason) => {
            Ok(context.end_session(&WORKER, &session, SessionEnding::Failed(reason), answer_pending).await?)
        }
        Promotion::Postponed(reason) if is_escrowed => {
            tracing::warn!(
                reason,
                "auth.exchange.postponed: the tokens are in escrow, the exchange is resumed"
            );
            // The claim ends early, so that the exchange is resumed soon. Otherwise it expires by itself.
            let pause = context.policy.resume_pause;
            if let Err(error) = context.store.claim_exchange(session.id, None, claim, pause).await {
                tracing::debug!(%error, "auth.exchange.postponed: the claim keeps its end");
            }
            Ok(session)
        }
        Promotion::Postponed(reason) => Err(ConsentError::Retry { after: None, reason }),
    }
}

async fn try_to_store(
    context: &Context,
    app: &App,
    session: &AuthSession,
    claim: Uuid,
    pair: TokenPair,
    deadline: Deadline,
    origin: Origin,
) -> Promotion {
    let identified = async {
        let pair = with_access_token(context, app, session, claim, pair, deadline).await?;
        let profile = consenter(context, deadline, app, &pair).await?;
        Ok((pair, profile))
    };
    let (pair, profile) = match identified.await {
        Ok(identified) => identified,
        Err(Unidentified::Failed(reason)) => return Promotion::Refused(reason),
        Err(Unidentified::Later(reason)) => return Promotion::Postponed(reason),
    };
    if let Err(reason) = check_identity(session, &profile) {
        return Promotion::Refused(reason);
    }
    let principal = Principal::Person { app_id: session.app_id.clone(), open_id: profile.open_id.clone() };
    let actor = Actor { principal, origin };
    match commit(context, &actor, deadline, session, claim, pair, profile).await {
        Ok(()) => Promotion::Stored,
        Err(reason) => Promotion::Postponed(reason),
    }
}
