//! Stored tokens.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use larkauth_models::{
    Actor, AppId, AuditAction, KeyScope, OpenId, StoredToken, Timestamp, TokenKind, TokenStatus, UserProfile,
};

use crate::{
    context::Context,
    error::AuthError,
    sessions::{check_scope_names, scopes_to_ask_for},
};

/// Wait of a caller whose token comes with the next refresh.
const A_SECOND: Duration = Duration::from_secs(1);
/// Validity below which a refreshed token is not served without another refresh.
const A_MINUTE: TimeDelta = TimeDelta::minutes(1);

impl Context {
    /// Returns a token that is valid for at least `min_validity` more and has the `required` scopes. Of `min_validity`, at most
    /// half of the token's own life counts; see [`StoredToken::is_servable`]. A token that is not valid for so long, or of
    /// whose life little is left, is refreshed first; if that fails, a token that is still valid is served. Otherwise
    /// only the store is asked, so the token is served while Lark or the bus is down; or not even that, while the answer is at
    /// most as old as [`Policy::read_staleness`](crate::Policy::read_staleness).
    ///
    /// # Errors
    /// [`AuthError::AuthenticationRequired`] when the person has to consent; [`AuthError::InsufficientScope`];
    /// [`AuthError::RefreshInProgress`], [`AuthError::UpstreamUnavailable`] and [`AuthError::AppFrozen`] when no valid token
    /// is left and a new one may come later; [`AuthError::AppNotFound`], [`AuthError::AppDisabled`]; the store's. A token
    /// that cannot be decrypted is [`AuthError::SecretUnreadable`], never "authentication required".
    pub async fn valid_token(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
        min_validity: TimeDelta,
        required: &[String],
    ) -> Result<Arc<StoredToken>, AuthError> {
        let found = async {
            check_scope_names(required)?;
            let stored = self.served_token(actor, app_id, open_id).await?;
            let token = self.fresh_enough(actor, stored, now, min_validity).await?;
            let missing = token.pair.missing(required);
            if missing.is_empty() {
                return Ok(token);
            }
            let ask_for = scopes_to_ask_for(&token.pair.scopes, required);
            Err(AuthError::InsufficientScope { ask_for, missing })
        };
        let found = found.await;
        self.settle_served(actor, now, app_id, open_id, found)
    }

    /// Returns the stored token if it can be served as [`Context::valid_token`] serves it to a caller that asks for a minute
    /// and for no scope. `None` when it is to be refreshed first: nothing is recorded then.
    ///
    /// # Errors
    /// Those of [`Context::valid_token`] that do not come from a refresh.
    pub async fn token_at_hand(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<Option<Arc<StoredToken>>, AuthError> {
        let found = async {
            let stored = self.served_token(actor, app_id, open_id).await?;
            let is_servable = stored.is_servable(now, A_MINUTE);
            if self.wants_refresh(&stored, is_servable) {
                return Ok(None);
            }
            if !is_servable {
                return Err(unserved(&stored, now));
            }
            self.note_use(&stored, now).await;
            Ok(Some(stored))
        };
        match found.await {
            Ok(None) => Ok(None),
            found => self.settle_served(actor, now, app_id, open_id, found),
        }
    }

    /// Records that a token was served, or why not. Equal records of a second are one.
    fn settle_served<T>(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
        found: Result<T, AuthError>,
    ) -> Result<T, AuthError> {
        if found.is_ok() && self.audit.count_repeat(actor, app_id, open_id) {
            return found;
        }
        let act = self.act(actor, now, AuditAction::TokenServe).app(app_id).open_id(open_id);
        self.settle_repeatable(actor, act, found)
    }

    /// Returns a token of a newer generation than the given one, which is refreshed unless that has happened already.
    /// Without a generation, the token is refreshed in any case.
    ///
    /// # Errors
    /// As [`Context::valid_token`].
    pub async fn refresh_token(
        &self,
        actor: &Actor,
        now: Timestamp,
        app_id: &AppId,
        open_id: &OpenId,
        generation: Option<i64>,
    ) -> Result<Arc<StoredToken>, AuthError> {
        let found = async {
            let stored = self.served_token(actor, app_id, open_id).await?;
            if generation.is_some_and(|known| stored.generation > known) && stored.is_servable(now, A_MINUTE)
            {
                return Ok(stored);
            }
            if !stored.is_refreshable() {
                return Err(unserved(&stored, now));
            }
            let known = generation.unwrap_or(0).max(stored.generation);
            let old = StoredToken { generation: known, ..StoredToken::clone(&stored) };
            let token = self.newer_token(&old).await?;
            self.check_caller(actor, app_id).await?;
            match token.pair.access_token.unreadable() {
                Some(why) => Err(AuthError::SecretUnreadable(why.clone())),
                None if !is_valid(&token, self.now()) => Err(unserved(&token, self.now())),
                None => self.learned(token).await,
            }
        };
        let act = self.act(actor, now, AuditAction::TokenRefresh).app(app_id).open_id(open_id);
        self.settle_read(actor, act, found.await)
    }

    async fn served_token(
        &self,
        actor: &Actor,
        app_id: &AppId,
        open_id: &OpenId,
    ) -> Result<Arc<StoredToken>, AuthError> {
        Self::check_app(actor, app_id)?;
        self.check_enabled(app_id).await?;
        let stored = self.reads.tokens.get(&*self.store, app_id, open_id).await?;
        stored.ok_or(AuthError::AuthenticationRequired)
    }

    async fn check_enabled(&self, app_id: &AppId) -> Result<(), AuthError> {
        let fetch = || async { self.apps.read_enabled(app_id).await.map(Some) };
        if self.reads.applications.read(app_id.as_str(), fetch, |_, _| false).await? == Some(false) {
            return Err(AuthError::AppDisabled(app_id.clone()));
        }
        Ok(())
    }

    /// Checks after a wait for Lark what was checked before it: the application and the key may have been switched off since.
    async fn check_caller(&self, actor: &Actor, app_id: &AppId) -> Result<(), AuthError> {
        self.check_enabled(app_id).await?;
        self.check_key(actor, KeyScope::TokensRead, app_id).await
    }

    async fn fresh_enough(
        &self,
        actor: &Actor,
        stored: Arc<StoredToken>,
        now: Timestamp,
        min_validity: TimeDelta,
    ) -> Result<Arc<StoredToken>, AuthError> {
        let is_servable = stored.is_servable(now, min_validity);
        if !self.wants_refresh(&stored, is_servable) {
            if !is_servable {
                return Err(unserved(&stored, now));
            }
            self.note_use(&stored, now).await;
            return Ok(stored);
        }
        // On the heap: the future of an ordinary read stays small.
        Box::pin(self.renewed_or_stored(actor, stored, now, min_validity)).await
    }

    /// Returns a newer token, or the stored one if that fails and it is still valid.
    async fn renewed_or_stored(
        &self,
        actor: &Actor,
        stored: Arc<StoredToken>,
        now: Timestamp,
        min_validity: TimeDelta,
    ) -> Result<Arc<StoredToken>, AuthError> {
        let is_servable = stored.is_servable(now, min_validity);
        let renewed = match self.newer_token(&stored).await {
            Ok(token) if token.is_servable(self.now(), min_validity) => Some(token),
            // Its answer took longer than half of its life, or it cannot be read.
            Ok(token) if !is_valid(&stored, self.now()) => {
                if !is_valid(&token, self.now()) {
                    return Err(unserved(&token, self.now()));
                }
                Some(token)
            }
            Ok(_) => None,
            // Only a consent gives a token that is valid long enough.
            Err(error @ AuthError::AuthenticationRequired) if !is_servable => return Err(error),
            Err(error) if !is_valid(&stored, self.now()) => return Err(error),
            Err(error) => {
                tracing::info!(app_id = %stored.app_id, %error, "auth.token.serve: the old token is still valid");
                None
            }
        };
        self.check_caller(actor, &stored.app_id).await?;
        let token = match renewed {
            Some(token) => self.learned(token).await?,
            None => self.still_stored(&stored).await?,
        };
        self.note_use(&token, now).await;
        Ok(token)
    }

    /// Returns a refreshed token, unless it was revoked or its person suspended meanwhile.
    async fn learned(&self, token: StoredToken) -> Result<Arc<StoredToken>, AuthError> {
        let token = self.reads.tokens.learn(&*self.store, token).await;
        token.ok_or(AuthError::AuthenticationRequired)
    }

    /// Returns the token that is stored after a wait for a newer one that did not come. The old one may have been revoked
    /// during the wait.
    async fn still_stored(&self, old: &Arc<StoredToken>) -> Result<Arc<StoredToken>, AuthError> {
        let stored = self.reads.tokens.get(&*self.store, &old.app_id, &old.open_id).await?;
        let stored = stored.ok_or(AuthError::AuthenticationRequired)?;
        if is_valid(&stored, self.now()) {
            return Ok(stored);
        }
        // The newer token cannot be read, or lives shorter: the older one is valid until its own end.
        if stored.generation > old.generation
            && stored.status != TokenStatus::Suspended
            && is_valid(old, self.now())
        {
            return Ok(old.clone());
        }
        Err(unserved(&stored, self.now()))
    }

    /// Records now and then that a token is used: it is kept valid then. A record that fails does not matter.
    async fn note_use(&self, token: &Arc<StoredToken>, now: Timestamp) {
        let last_before = now - TimeDelta::from_std(self.policy.use_interval).unwrap_or(TimeDelta::MAX);
        if token.last_used_at.is_some_and(|last| last > last_before) {
            return;
        }
        // First, so that of many readers one records it.
        self.reads.tokens.used(token, StoredToken { last_used_at: Some(now), ..StoredToken::clone(token) });
        if let Err(error) = self.store.touch_token(&token.app_id, &token.open_id, now, last_before).await {
            tracing::debug!(%error, "auth.token.use: not recorded");
        }
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
        self.reads.tokens.forget(open_id.as_str());
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

/// Returns whether a token may be served now, however little of its life is left.
fn is_valid(token: &StoredToken, now: Timestamp) -> bool {
    token.is_servable(now, TimeDelta::zero())
}

/// Returns why a token is not served. A secret that cannot be read is no reason to ask the person: the operator puts the key
/// back. Neither is a token that can be refreshed: it is refreshed again.
fn unserved(token: &StoredToken, now: Timestamp) -> AuthError {
    let is_over = token.pair.refresh_token.is_none() && token.pair.access_expires_at <= now;
    let has_ended = is_over || !matches!(token.status, TokenStatus::Active | TokenStatus::OutcomeUnknown);
    match token.pair.unreadable() {
        _ if !has_ended && token.pair.lacks_access_token() => {
            AuthError::UpstreamUnavailable { retry_after: A_SECOND }
        }
        Some(why) if !has_ended => AuthError::SecretUnreadable(why.clone()),
        _ if token.is_refreshable() => AuthError::UpstreamUnavailable { retry_after: A_SECOND },
        _ => AuthError::AuthenticationRequired,
    }
}
