//! Serving tokens.

use chrono::TimeDelta;
use larkauth_models::{AppId, OpenId, StoredToken, TokenKind};

use crate::{AuthError, Context};

impl Context {
    /// A stored token that is valid for at least `min_validity` more. Asks nobody but the store, so that it is served
    /// whatever else is broken.
    ///
    /// # Errors
    /// [`AuthError::AuthenticationRequired`] when there is none; [`AuthError::AppNotFound`], [`AuthError::AppDisabled`];
    /// the store's. A token that cannot be decrypted is a storage error, never "authentication required".
    pub async fn valid_token(
        &self,
        app_id: &AppId,
        open_id: &OpenId,
        min_validity: TimeDelta,
    ) -> Result<StoredToken, AuthError> {
        self.apps.enabled(app_id).await?;
        let token = self.store.token(app_id, open_id, TokenKind::User).await?;
        token.filter(|t| t.is_servable(self.now(), min_validity)).ok_or(AuthError::AuthenticationRequired)
    }
}
