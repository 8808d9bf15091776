use std::time::Duration;

use larkauth_models::{AuthSession, SessionState, TokenPair, UserProfile};
use larkauth_storage::{Completion, StorageError};
use uuid::Uuid;

use super::{
    deadline::{Deadline, Step},
    error::ConsentError,
    retry::retry_transient,
};
use crate::context::Context;

/// Wait before a second look at a session that ended under an active claim.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Stores token, profile and the end of the session in one transaction.
///
/// # Errors
/// When the store did not take them in time, or the session ended otherwise.
pub(super) async fn commit(
    context: &Context,
    deadline: Deadline,
    session: &AuthSession,
    claim: Uuid,
    pair: TokenPair,
    profile: UserProfile,
) -> Result<(), ConsentError> {
    let completion = Completion { session_id: session.id, claim, pair, profile, now: context.now() };
    let store = || context.store.complete_session(&completion);
    let until = deadline.end_of(Step::Commit);
    let storing =
        retry_transient(context.policy.retry, &*context.entropy, until, store, StorageError::is_transient);
    let Some(stored) = deadline.within(Step::Commit, storing).await else {
        let reason = "the tokens could not be stored in time".to_owned();
        return Err(ConsentError::Retry { after: None, reason });
    };
    if stored? {
        return Ok(());
    }
    // Only a lost answer to this very commit ends the session under an active claim.
    match context.existing_session(session.id).await?.state {
        SessionState::Completed => Ok(()),
        state => Err(ConsentError::Retry {
            after: Some(SECOND_LOOK),
            reason: format!("the session became {state} during the exchange"),
        }),
    }
}
