//! Stored tokens.

use chrono::TimeDelta;
use larkauth_models::{Actor, AppId, OpenId, StoredToken, Timestamp, TokenKind, UserProfile};

use crate::{
    context::Context,
    error::AuthError,
    sessions::{check_scope_names, scopes_to_ask_for},
};

impl Context {
    /// Returns a stored token that is valid for at least `min_validity` more and has the `required` scopes. Only the store is
    /// asked, so the token is served while Lark or the bus is down.
    ///
    /// # Errors
    /// [`AuthError::AuthenticationRequired`] when no such token is stored; [`AuthError::InsufficientScope`]; [`AuthError::AppNotFound`],
    /// [`AuthError::AppDisabled`]; the store's. A token that cannot be decrypted is a storage error, never
    /// "authentication required".
    pub async fn valid_token(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
        min_validity: TimeDelta,
        required: &[String],
    ) -> Result<StoredToken, AuthError> {
        self.note_operation(actor, now, "token.serve");
        Self::check_app(actor, app_id)?;
        check_scope_names(required)?;
        self.apps.get_enabled(app_id).await?;
        let token = self.store.token(app_id, open_id, TokenKind::User).await?;
        let token =
            token.filter(|t| t.is_servable(now, min_validity)).ok_or(AuthError::AuthenticationRequired)?;
        let missing = token.pair.missing(required);
        if missing.is_empty() {
            return Ok(token);
        }
        Err(AuthError::InsufficientScope {
            ask_for: scopes_to_ask_for(&token.pair.scopes, required),
            missing,
        })
    }

    /// Returns the stored token of a person in any state, also of a disabled application.
    ///
    /// # Errors
    /// The store's.
    pub async fn stored_token(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<Option<StoredToken>, AuthError> {
        self.note_operation(actor, now, "token.show");
        Self::check_app(actor, app_id)?;
        Ok(self.store.token(app_id, open_id, TokenKind::User).await?)
    }

    /// Wipes the token of a person. Returns false when none is stored.
    ///
    /// # Errors
    /// The store's.
    pub async fn revoke_token(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<bool, AuthError> {
        self.note_operation(actor, now, "token.revoke");
        Self::check_app(actor, app_id)?;
        Ok(self.store.revoke_token(app_id, open_id, TokenKind::User, now).await?)
    }

    /// Returns the profile of a person, as one application sees them.
    ///
    /// # Errors
    /// The store's.
    pub async fn profile(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<Option<UserProfile>, AuthError> {
        self.note_operation(actor, now, "profile.show");
        Self::check_app(actor, app_id)?;
        Ok(self.store.profile(app_id, open_id).await?)
    }
}
