use larkauth_auth::{AuthError, Context};
use larkauth_models::{AppId, OpenId};

use crate::{exit::CommandError, globals::operator};

/// Returns why there is no token of a person: the application is not registered, or the person has none.
pub(crate) async fn no_token(context: &Context, app_id: &AppId, open_id: &OpenId) -> anyhow::Error {
    match context.applications(&operator(), context.now()).await {
        Ok(known) if known.iter().any(|known| known.app_id == *app_id) => CommandError::NotFound(format!(
            "no token is stored for {open_id} in {app_id}; ask for one with `larkauth card send`"
        ))
        .into(),
        Ok(_) => AuthError::AppNotFound(app_id.clone()).into(),
        Err(error) => error.into(),
    }
}
