//! Who loses access when, and why; and the state of one token.

use chrono::TimeDelta;
use larkauth_models::{Actor, AppId, AuditAction, OpenId, Timestamp, TokenStatus};
use larkauth_storage::{HorizonCount, HorizonCursor, HorizonFilter, Loss, TokenState, UnreadableTokens};

use crate::{context::Context, error::AuthError};

/// How long Lark refreshes a token after the consent.
const CONSENT_LIFE: TimeDelta = TimeDelta::days(365);

/// A page of [`Context::horizon`].
#[derive(Clone, Debug)]
pub struct HorizonPage {
    /// Losses of access, the earliest first.
    pub losses: Vec<Loss>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<HorizonCursor>,
    /// Losses of all pages, by reason.
    pub counts: Vec<HorizonCount>,
    /// Tokens that cannot be read because a key is missing. Not part of the losses and counts, and on the first page only.
    pub unreadable: UnreadableTokens,
}

/// The state of a token, and what follows from it.
#[derive(Clone, Debug)]
pub struct TokenStanding {
    /// The state.
    pub token: TokenState,
    /// When refreshing ends: 365 days after the consent.
    pub consent_ends_at: Timestamp,
    /// The access token is handed out.
    pub is_served: bool,
    /// Why the application's tokens are not refreshed, while its breaker is open.
    pub frozen_reason: Option<String>,
}

impl Context {
    /// Returns the state of a person's token in any status, also of a disabled application, without its secrets.
    ///
    /// # Errors
    /// The store's.
    pub async fn token_standing(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<Option<TokenStanding>, AuthError> {
        let found = async {
            Self::check_app(actor, app_id)?;
            let Some(token) = TokenState::read(&*self.store, &self.cipher, app_id, open_id).await? else {
                return Ok(None);
            };
            let known = self.store.applications().await?.into_iter().find(|known| known.app_id == *app_id);
            let frozen_reason = known.and_then(|known| known.application.ok()?.frozen_reason);
            let is_readable = token.access_token.as_ref().is_some_and(|secret| secret.unreadable.is_none());
            let is_served = is_readable
                && token.access_expires_at > now
                && !matches!(token.status, TokenStatus::Suspended | TokenStatus::Revoked);
            let consent_ends_at = token.granted_at + CONSENT_LIFE;
            Ok(Some(TokenStanding { token, consent_ends_at, is_served, frozen_reason }))
        };
        let act = self.act(actor, now, AuditAction::TokenStatus).app(app_id).open_id(open_id);
        self.settle_read(actor, act, found.await)
    }

    /// Returns at most `limit` people who lose access in the time of the filter, the earliest first.
    ///
    /// # Errors
    /// [`AuthError::Forbidden`] for an actor that does not see all of these applications; the store's.
    pub async fn horizon(
        &self,
        actor: &Actor,
        now: Timestamp,
        filter: &HorizonFilter,
        after: Option<&HorizonCursor>,
        limit: u32,
    ) -> Result<HorizonPage, AuthError> {
        let page = async {
            match &filter.app_id {
                Some(app_id) => Self::check_app(actor, app_id)?,
                None if actor.access().is_some_and(|access| !access.app_ids.is_empty()) => {
                    return Err(AuthError::Forbidden("name one application of the key".to_owned()));
                }
                None => {}
            }
            let losses = self.store.losses(filter, after, limit).await?;
            let next = losses.last().filter(|_| losses.len() == limit as usize).map(Loss::cursor);
            let counts = self.store.count_losses(filter).await?;
            let unreadable = match after {
                None => self.unreadable_tokens(filter.app_id.as_ref(), limit).await?,
                Some(_) => UnreadableTokens::default(),
            };
            Ok(HorizonPage { losses, next, counts, unreadable })
        };
        let mut act = self.act(actor, now, AuditAction::TokenHorizon);
        act.app_id = filter.app_id.as_ref().map(ToString::to_string);
        let page = page.await;
        self.settle_read(actor, act, page)
    }

    /// Returns the tokens that need a missing key. Reads no token while no key is missing.
    async fn unreadable_tokens(
        &self,
        app_id: Option<&AppId>,
        limit: u32,
    ) -> Result<UnreadableTokens, AuthError> {
        if self.look_at_encryption_keys().await?.is_empty() {
            return Ok(UnreadableTokens::default());
        }
        Ok(UnreadableTokens::find(&*self.store, &self.cipher, app_id, limit as usize).await?)
    }
}
