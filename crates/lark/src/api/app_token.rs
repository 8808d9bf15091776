//! The application's own tokens, fetched by one caller at a time and shared by all, and the calls made with them.

use std::time::Duration;

use larkauth_models::{ExposeSecret, SecretString};
use reqwest::RequestBuilder;

use super::{
    client::LarkClient,
    lifetime::{DEFAULT_LIFETIME, lifetime, usable},
    spec::{Api, Repeat},
    token_cache::{CachedToken, TokenCache},
};
use crate::{
    error::{ErrorKind, LarkError, Outcome},
    lenient::Fields,
};

const TENANT: Api = Api::token("tenant_access_token");
const APP: Api = Api::token("app_access_token");

/// A token is renewed when less than this, or less than a tenth of its lifetime, is left. Renewal has this long to
/// succeed before a call fails.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Wait after a failed renewal while the current token is still valid.
const RENEW_RETRY_INTERVAL: Duration = Duration::from_secs(15);
/// Subtracted from a token's lifetime, so that the token does not expire while a request is under way.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5);

impl LarkClient {
    /// Returns the token with which the application acts in its company.
    ///
    /// # Errors
    /// When no token is cached and the fetch fails. All callers that waited for the same fetch get the same error.
    pub async fn tenant_access_token(&self) -> Result<SecretString, LarkError> {
        self.cached_token(
            &self.inner.tenant_token,
            TENANT,
            "/open-apis/auth/v3/tenant_access_token/internal",
            "tenant_access_token",
        )
        .await
    }

    /// Returns the token with which the application acts for itself. The historical token endpoint requires it.
    ///
    /// # Errors
    /// As [`tenant_access_token`](Self::tenant_access_token).
    pub async fn app_access_token(&self) -> Result<SecretString, LarkError> {
        self.cached_token(
            &self.inner.app_token,
            APP,
            "/open-apis/auth/v3/app_access_token/internal",
            "app_access_token",
        )
        .await
    }

    /// Makes a call with the tenant access token, which is added to the request of `build`. A token that Lark refuses is
    /// renewed once.
    pub(super) async fn call_as_tenant<T>(
        &self,
        api: Api,
        repeat: Repeat,
        build: impl Fn() -> RequestBuilder,
        read: impl Fn(&Fields) -> Option<T>,
    ) -> Result<T, LarkError> {
        let build = |token: &SecretString| build().bearer_auth(token.expose_secret());
        let token = self.tenant_access_token().await?;
        match self.call(api, repeat, || build(&token), &read).await {
            // Lark refused the token and did not process the request, so this repeat is safe for every call.
            Err(error) if error.refuses_app_token() => {
                self.inner.tenant_token.invalidate(&token);
                let token = self.tenant_access_token().await?;
                self.call(api, repeat, || build(&token), &read).await.map_err(as_app_token_error)
            }
            result => result,
        }
    }

    async fn cached_token(
        &self,
        cache: &TokenCache,
        api: Api,
        path: &str,
        field: &str,
    ) -> Result<SecretString, LarkError> {
        let clock = &self.options().clock;
        let now = clock.now();
        let cached = cache.get().filter(|cached| now < cached.expires_at);
        if let Some(cached) = &cached
            && now < cached.renew_at
        {
            return Ok(cached.token.clone());
        }
        let failures = cache.failures();
        let mut last_error = match &cached {
            // One caller renews a token that is still valid; the others use it without waiting.
            Some(cached) => match cache.try_lock_fetch() {
                Ok(guard) => guard,
                Err(_) => return Ok(cached.token.clone()),
            },
            None => cache.lock_fetch().await,
        };
        // A caller that waited takes the result of the fetch it waited for: a token, or the error.
        if let Some(fresh) = cache.get().filter(|cached| clock.now() < cached.renew_at) {
            return Ok(fresh.token);
        }
        if let Some(error) = &*last_error
            && cache.failures() != failures
        {
            return Err(error.clone());
        }
        match self.fetch_token(api, path, field).await {
            Ok(fresh) => {
                *last_error = None;
                cache.put(fresh.clone());
                Ok(fresh.token)
            }
            Err(error) => {
                cache.count_failure();
                *last_error = Some(error.clone());
                let Some(cached) = cached else { return Err(error) };
                tracing::warn!(%error, "the application's token could not be renewed: using the current token");
                cache.put(CachedToken { renew_at: clock.now() + RENEW_RETRY_INTERVAL, ..cached.clone() });
                Ok(cached.token)
            }
        }
    }

    async fn fetch_token(&self, api: Api, path: &str, field: &str) -> Result<CachedToken, LarkError> {
        let options = self.options();
        let sent_at = options.clock.now();
        let build = || {
            options.http.post(self.api_url(path)).json(&serde_json::json!({
                "app_id": options.app_id,
                "app_secret": options.app_secret.expose_secret(),
            }))
        };
        let read = |answer: &Fields| {
            let token = usable(answer.secret(field)?)?;
            let lifetime = lifetime(answer, &["expire", "expires_in"]).unwrap_or(DEFAULT_LIFETIME);
            let margin = RENEW_BEFORE.max(lifetime / 10).min(lifetime / 2);
            Some(CachedToken {
                token,
                renew_at: sent_at + (lifetime - margin),
                expires_at: sent_at + lifetime.saturating_sub(EXPIRY_MARGIN),
            })
        };
        // The call that needs the token has not been sent, and fetching a token twice has no effect.
        let unsent = |error| LarkError { outcome: Outcome::NotProcessed, ..error };
        self.call(api, Repeat::Safe, build, read).await.map_err(unsent)
    }
}

/// Turns the refusal of the application's own token into a transient error. Elsewhere the same code may mean that the
/// person's token is invalid.
pub(super) fn as_app_token_error(error: LarkError) -> LarkError {
    if !error.refuses_app_token() {
        return error;
    }
    let message = "the application's own token is no longer accepted";
    LarkError { kind: ErrorKind::Transient, message, ..error }
}
