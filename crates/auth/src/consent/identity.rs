use larkauth_lark::error::{ErrorKind, LarkError};
use larkauth_models::{AuthSession, FailureReason, TokenPair, UserProfile};

use super::{
    deadline::{Deadline, Step},
    retry::retry_transient,
};
use crate::{apps::App, context::Context};

/// The cure where a person was invited by user id and Lark returns no user ids.
pub(super) const USER_ID_PERMISSION: &str = "give the application the permission contact:user.employee_id:readonly in the developer console, or ask by open id";

/// Why it is not known who consented.
#[derive(Debug)]
pub(super) enum Unidentified {
    /// Lark did not say, and may say later.
    Later(String),
    /// The session fails for this reason.
    Failed(FailureReason),
}

/// Asks Lark who consented. A transient failure is repeated as long as the deadline allows.
///
/// # Errors
/// Without a profile. An access token that has expired identifies no person any more.
pub(super) async fn consenter(
    context: &Context,
    deadline: Deadline,
    app: &App,
    pair: &TokenPair,
) -> Result<UserProfile, Unidentified> {
    if pair.access_expires_at <= context.now() {
        tracing::warn!(
            "auth.exchange.user_info: Lark did not say who consented while the access token was valid"
        );
        return Err(Unidentified::Failed(FailureReason::UpstreamUnavailable));
    }
    let ask = || app.client.user_info(&pair.access_token);
    let until = deadline.end_of(Step::Identity);
    let asking =
        retry_transient(context.policy.retry, &*context.entropy, until, ask, LarkError::is_retryable);
    let Some(answer) = deadline.within(Step::Identity, asking).await else {
        return Err(Unidentified::Later("Lark did not say in time who consented".to_owned()));
    };
    answer.map_err(|error| {
        if error.is_retryable() {
            return Unidentified::Later(error.to_string());
        }
        tracing::warn!(%error, "auth.exchange.user_info");
        Unidentified::Failed(match error.kind {
            ErrorKind::User => FailureReason::UserUnavailable,
            ErrorKind::App | ErrorKind::InvalidRequest | ErrorKind::InsufficientScope { .. } => {
                FailureReason::AppMisconfigured
            }
            _ => FailureReason::UpstreamUnavailable,
        })
    })
}

/// Checks that the person who consented is the person who was asked.
///
/// # Errors
/// The reason with which the session fails.
pub(super) fn check_identity(session: &AuthSession, profile: &UserProfile) -> Result<(), FailureReason> {
    match session.asked.is(&profile.open_id, profile.user_id.as_ref()) {
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
