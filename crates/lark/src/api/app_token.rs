//! The application's own tokens: fetched by one caller at a time, shared by all.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larkauth_models::{ExposeSecret, SecretString, Timestamp};
use serde::Deserialize;

use super::{
    LarkClient,
    call::{Api, Repeat},
};
use crate::error::{LarkError, Outcome};

const TENANT: Api = Api::lark("tenant_access_token");
const APP: Api = Api::lark("app_access_token");

/// A token is renewed when less than this, or less than a tenth of its life, is left.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// After a renewal failed while the old token is still good.
const RENEW_AGAIN: Duration = Duration::from_secs(15);
/// Taken off a token's life, so that it does not end on the way.
const SAFETY: Duration = Duration::from_secs(5);

/// Where one token is kept.
#[derive(Default)]
pub(super) struct Slot {
    held: Mutex<Option<Held>>,
    /// Owned by the one caller that fetches; holds why the last fetch failed.
    flight: tokio::sync::Mutex<Option<LarkError>>,
    failures: AtomicU64,
}

#[derive(Clone)]
struct Held {
    token: SecretString,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

impl Slot {
    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    /// Drops the token that Lark refused, unless somebody has already put a newer one in its place.
    pub(super) fn forget(&self, refused: &SecretString) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|h| h.token.expose_secret() == refused.expose_secret()) {
            *held = None;
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    tenant_access_token: Option<SecretString>,
    app_access_token: Option<SecretString>,
    /// Seconds.
    expire: u32,
}

impl LarkClient {
    /// The token with which the application acts in its company.
    ///
    /// # Errors
    /// When none is held and Lark gives none. Everybody who waited for the same fetch gets its error.
    pub async fn tenant_access_token(&self) -> Result<SecretString, LarkError> {
        self.own_token(
            &self.inner.tenant_token,
            TENANT,
            "/open-apis/auth/v3/tenant_access_token/internal",
            |a| a.tenant_access_token,
        )
        .await
    }

    /// The token with which the application speaks for itself; the historical token endpoint wants it.
    ///
    /// # Errors
    /// As [`tenant_access_token`](Self::tenant_access_token).
    pub async fn app_access_token(&self) -> Result<SecretString, LarkError> {
        self.own_token(&self.inner.app_token, APP, "/open-apis/auth/v3/app_access_token/internal", |a| {
            a.app_access_token
        })
        .await
    }

    async fn own_token(
        &self,
        slot: &Slot,
        api: Api,
        path: &str,
        pick: fn(Answer) -> Option<SecretString>,
    ) -> Result<SecretString, LarkError> {
        let now = self.inner.clock.now();
        let held = slot.held().filter(|held| now < held.expires_at);
        if let Some(held) = &held
            && now < held.renew_at
        {
            return Ok(held.token.clone());
        }
        let failures = slot.failures.load(Ordering::Acquire);
        let mut last_error = match &held {
            // One caller renews in time; nobody else waits for it.
            Some(held) => match slot.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(held.token.clone()),
            },
            None => slot.flight.lock().await,
        };
        // Who waited takes what the one before has brought: a token, or the reason why there is none.
        if let Some(fresh) = slot.held().filter(|held| self.inner.clock.now() < held.renew_at) {
            return Ok(fresh.token);
        }
        if let Some(error) = &*last_error
            && slot.failures.load(Ordering::Acquire) != failures
        {
            return Err(error.clone());
        }
        match self.fetch_own_token(api, path, pick).await {
            Ok(fresh) => {
                *last_error = None;
                slot.keep(fresh.clone());
                Ok(fresh.token)
            }
            Err(error) => {
                slot.failures.fetch_add(1, Ordering::Release);
                *last_error = Some(error.clone());
                let Some(held) = held else { return Err(error) };
                tracing::warn!(%error, "the application's token could not be renewed; using the old one");
                slot.keep(Held { renew_at: self.inner.clock.now() + RENEW_AGAIN, ..held.clone() });
                Ok(held.token)
            }
        }
    }

    async fn fetch_own_token(
        &self,
        api: Api,
        path: &str,
        pick: fn(Answer) -> Option<SecretString>,
    ) -> Result<Held, LarkError> {
        let sent_at = self.inner.clock.now();
        let build = || {
            self.inner.http.post(self.api_url(path)).json(&serde_json::json!({
                "app_id": self.inner.app_id,
                "app_secret": self.inner.app_secret.expose_secret(),
            }))
        };
        let read = |body: &[u8]| {
            let answer: Answer = serde_json::from_slice(body).ok()?;
            let life = Duration::from_secs(answer.expire.into());
            let token = pick(answer).filter(|token| !token.expose_secret().is_empty())?;
            let margin = RENEW_BEFORE.max(life / 10).min(life / 2);
            Some(Held {
                token,
                renew_at: sent_at + (life - margin),
                expires_at: sent_at + life.saturating_sub(SAFETY),
            })
        };
        // Whatever the token was wanted for has not been sent, and fetching one twice changes nothing.
        let unsent = |error| LarkError { outcome: Outcome::NotProcessed, ..error };
        self.call(api, Repeat::Safe, build, read).await.map_err(unsent)
    }
}
