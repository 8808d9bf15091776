use larkauth_lark::error::{ErrorKind, LarkError};
use larkauth_models::{AuthSession, FailureReason, TokenPair, UserProfile};

use super::{
    deadline::{Deadline, Step},
    retry::retry_transient,
};
use crate::{apps::App, context::Context};

/// The cure where a person was invited by user id and Lark returns no user ids.
pub(super) const USER_ID_PERMISSION: &str = "give the application the permission contact:user.employee_id:readonly in the developer console, or ask by open id";

/// Asks Lark who consented. The pair exists only in this process, so a transient failure is repeated as long as the
/// deadline allows.
///
/// # Errors
/// The reason with which the session fails.
pub(super) async fn consenter(
    context: &Context,
    deadline: Deadline,
    app: &App,
    pair: &TokenPair,
) -> Result<UserProfile, FailureReason> {
    let ask = || app.client.user_info(&pair.access_token);
    let until = deadline.end_of(Step::Identity);
    let asking =
        retry_transient(context.policy.retry, &*context.entropy, until, ask, LarkError::is_retryable);
    let Some(answer) = deadline.within(Step::Identity, asking).await else {
        tracing::warn!("auth.exchange.user_info: Lark did not say in time who consented");
        return Err(FailureReason::UpstreamUnavailable);
    };
    answer.map_err(|error| {
        tracing::warn!(%error, "auth.exchange.user_info");
        match error.kind {
            ErrorKind::User => FailureReason::UserUnavailable,
            ErrorKind::App | ErrorKind::InvalidRequest | ErrorKind::InsufficientScope { .. } => {
                FailureReason::AppMisconfigured
            }
            _ => FailureReason::UpstreamUnavailable,
        }
    })
}

/// Checks that the person who consented is the person who was asked.
///
/// # Errors
/// The reason with which the session fails.
pub(super) fn check_identity(session: &AuthSession, profile: &UserProfile) -> Result<(), FailureReason> {
    match session.person.is(&profile.open_id, profile.user_id.as_ref()) {
        Some(true) => Ok(()),
        Some(false) => {
            tracing::warn!("auth.exchange.identity_mismatch: another person consented, nothing is stored");
            Err(FailureReason::IdentityMismatch)
        }
        None => {
            tracing::error!(
                "auth.exchange.identity_unknown: Lark does not return the user id by which this person was invited, \
                 nothing is stored; {USER_ID_PERMISSION}"
            );
            Err(FailureReason::AppMisconfigured)
        }
    }
}
