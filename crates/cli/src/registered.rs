use larkauth_auth::{AuthError, Context};
use larkauth_models::AppId;

use crate::globals::operator;

/// Checks that the applications that a command names are registered. One whose registration cannot be read is.
///
/// # Errors
/// [`AuthError::AppNotFound`] for the first one that is not; the store's.
pub(crate) async fn check_registered(context: &Context, app_ids: &[AppId]) -> Result<(), AuthError> {
    if app_ids.is_empty() {
        return Ok(());
    }
    let known = context.applications(&operator(), context.now()).await?;
    let is_known = |app_id: &AppId| known.iter().any(|known| known.app_id == *app_id);
    match app_ids.iter().find(|app_id| !is_known(app_id)) {
        Some(unknown) => Err(AuthError::AppNotFound(unknown.clone())),
        None => Ok(()),
    }
}
