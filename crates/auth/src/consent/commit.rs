use larkauth_models::{Actor, AuditAction, AuthSession, SessionState, TokenPair, UserProfile};
use larkauth_storage::{Completion, StorageError};
use tracing::Instrument;
use uuid::Uuid;

use super::{
    deadline::{Deadline, Step},
    retry::retry_transient,
};
use crate::{context::Context, refresh_schedule::Life};

/// Stores token, profile and the end of the session in one transaction. The same completion again changes nothing.
///
/// # Errors
/// A reason for the log: the store did not take them in time, or the session ended otherwise.
pub(super) async fn commit(
    context: &Context,
    actor: &Actor,
    deadline: Deadline,
    session: &AuthSession,
    claim: Uuid,
    pair: TokenPair,
    profile: UserProfile,
) -> Result<(), String> {
    let act = context.act_on_session(actor, session, AuditAction::SessionComplete).open_id(&profile.open_id);
    let now = act.at;
    // Consent is a use: the caller that asked for it is waiting.
    let life = Life::of_new(&pair, now, now);
    let next_attempt_at = context.policy.refresh.next(&life, now, context.entropy.fraction());
    let next_attempt_at = next_attempt_at.filter(|_| pair.refresh_token.is_some());
    let audit = act.clone();
    let completion = Completion { session_id: session.id, claim, pair, profile, next_attempt_at, now, audit };
    let store = || context.store.complete_session(&completion);
    let until = deadline.end_of(Step::Commit);
    let storing =
        retry_transient(context.policy.retry, &*context.entropy, until, store, StorageError::is_transient);
    let open_id = completion.profile.open_id.as_str();
    let stored =
        deadline.within(Step::Commit, storing).instrument(tracing::info_span!("auth.session.commit")).await;
    context.reads.tokens.forget(open_id);
    match stored {
        None => return Err("the tokens could not be stored in time".to_owned()),
        Some(Err(error)) => return Err(error.to_string()),
        Some(Ok(true)) => {
            context.note_done(&act);
            return Ok(());
        }
        Some(Ok(false)) => {}
    }
    // Either the answer to this very commit was lost, or another caller has taken the claim over.
    match context.existing_session(session.id).await {
        Ok(now) if now.state == SessionState::Completed => Ok(()),
        Ok(now) => Err(format!("another caller has the exchange, the session is {}", now.state)),
        Err(error) => Err(error.to_string()),
    }
}
