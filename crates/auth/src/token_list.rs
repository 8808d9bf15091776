//! The people of an application, by the state of their tokens.

use larkauth_models::{Actor, AppId, AuditAction, OpenId, Timestamp};
use larkauth_storage::TokenState;

use crate::{context::Context, error::AuthError};

impl Context {
    /// Returns the states of at most `limit` tokens of people in an application, in any status, in the order of their open ids
    /// after the given one, without their secrets.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] for an application that the actor does not see; the store's.
    pub async fn list_tokens(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        after: Option<&OpenId>,
        limit: u32,
    ) -> Result<Vec<TokenState>, AuthError> {
        let page = async {
            Self::check_app(actor, app_id)?;
            Ok(TokenState::page(&*self.store, &self.cipher, app_id, after, limit).await?)
        };
        let act = self.act(actor, now, AuditAction::TokenList).app(app_id);
        self.settle_read(actor, act, page.await)
    }
}
