//! Stored tokens.

use chrono::TimeDelta;
use larkauth_models::{Actor, AppId, AuditAction, OpenId, StoredToken, Timestamp, TokenKind, UserProfile};

use crate::{context::Context, error::AuthError};

impl Context {
    /// Returns a stored token that is valid for at least `min_validity` more. Only the store is asked, so the token is
    /// served while Lark or the bus is down.
    ///
    /// # Errors
    /// [`AuthError::AuthenticationRequired`] when no such token is stored; [`AuthError::AppNotFound`],
    /// [`AuthError::AppDisabled`]; the store's. A token that cannot be decrypted is a storage error, never
    /// "authentication required".
    pub async fn valid_token(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
        min_validity: TimeDelta,
    ) -> Result<StoredToken, AuthError> {
        let found = async {
            Self::check_app(actor, app_id)?;
            self.apps.get_enabled(app_id).await?;
            let token = self.store.token(app_id, open_id, TokenKind::User).await?;
            token.filter(|t| t.is_servable(now, min_validity)).ok_or(AuthError::AuthenticationRequired)
        };
        let act = self.act(actor, now, AuditAction::TokenServe).app(app_id).open_id(open_id);
        self.settle_read(actor, act, found.await)
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
        let found = async {
            Self::check_app(actor, app_id)?;
            Ok(self.store.token(app_id, open_id, TokenKind::User).await?)
        };
        let act = self.act(actor, now, AuditAction::TokenShow).app(app_id).open_id(open_id);
        self.settle_read(actor, act, found.await)
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
        let act = self.act(actor, now, AuditAction::TokenRevoke).app(app_id).open_id(open_id);
        let revoked = async {
            Self::check_app(actor, app_id)?;
            Ok(self.store.revoke_token(app_id, open_id, TokenKind::User, &act).await?)
        };
        let revoked = revoked.await;
        self.settle_change(act, revoked, |revoked| *revoked)
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
        let found = async {
            Self::check_app(actor, app_id)?;
            Ok(self.store.profile(app_id, open_id).await?)
        };
        let act = self.act(actor, now, AuditAction::ProfileShow).app(app_id).open_id(open_id);
        self.settle_read(actor, act, found.await)
    }
}
