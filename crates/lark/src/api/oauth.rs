//! OAuth 2.0: the consent page, the token endpoint in both versions, the device flow.
//!
//! No call that sends a code or a refresh token is repeated by this crate. Both work once, and only the caller knows what
//! it has stored about the first attempt.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use larkauth_models::{ExposeSecret, SecretString, Timestamp, TokenApi, TokenPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::{
    app_token::as_app_token_error,
    client::LarkClient,
    lifetime::{DEFAULT_LIFETIME, lifetime, usable},
    rate_limiter::EndpointClass,
    spec::{Api, Repeat},
};
use crate::{
    error::{Cause, ErrorKind, LarkError},
    lenient::Fields,
};

const EXCHANGE: Api = Api::token("exchange_code").limited_as(EndpointClass::Token);
const REFRESH: Api = Api::token("refresh_token").limited_as(EndpointClass::Token);
const DEVICE_AUTHORIZATION: Api = Api::oauth("device_authorization");
const DEVICE_POLL: Api = Api::device_poll("poll_device_code").limited_as(EndpointClass::Token);

const V2: &str = "/open-apis/authen/v2/oauth/token";
const V1_EXCHANGE: &str = "/open-apis/authen/v1/oidc/access_token";
const V1_REFRESH: &str = "/open-apis/authen/v1/oidc/refresh_access_token";

/// Longest scope that is taken from an answer, in bytes.
const MAX_SCOPE: usize = 256;
/// Most scopes that are taken from an answer.
const MAX_GRANTED: usize = 1000;
/// Lifetime of a device code whose response has no usable one. That of Lark today.
const DEFAULT_DEVICE_LIFETIME: Duration = Duration::from_secs(240);
/// Poll interval when Lark's response has none, in seconds. From RFC 8628 section 3.2.
const DEFAULT_POLL_INTERVAL: u64 = 5;
/// Longest user code that is accepted, in bytes. A person types it.
const MAX_USER_CODE: usize = 64;
/// Longest address of a device page that is accepted, in bytes. A card holds it.
pub const MAX_VERIFICATION_URI: usize = 1000;

/// The parameters of a consent page.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizeRequest<'a> {
    /// The address that the browser returns to, registered in the developer console.
    pub redirect_uri: &'a Url,
    /// The requested scopes, at most 50. A refresh token requires `offline_access`.
    pub scopes: &'a [String],
    /// The state, unguessable and used once.
    pub state: &'a SecretString,
    /// The result of [`pkce_challenge`].
    pub code_challenge: &'a str,
}

/// An authorization code and the parameters of its exchange.
#[derive(Clone, Debug)]
pub struct CodeGrant {
    /// The code, from the redirect or from the card callback.
    pub code: SecretString,
    /// The redirect URI of the consent page.
    pub redirect_uri: Url,
    /// The PKCE verifier, 43 to 128 characters. The historical endpoint does not use it.
    pub code_verifier: Option<SecretString>,
}

/// The codes and addresses for a consent on another device (RFC 8628 section 3.2).
#[derive(Clone, Debug)]
pub struct DeviceAuthorization {
    /// The code for polls.
    pub device_code: SecretString,
    /// The code that the person enters.
    pub user_code: SecretString,
    /// The page on which the person enters the code.
    pub verification_uri: Url,
    /// The same page with the code filled in.
    pub verification_uri_complete: Option<SecretString>,
    /// Expiry of both codes.
    pub expires_at: Timestamp,
    /// Shortest wait between two polls.
    pub interval: Duration,
}

/// Returns the PKCE `code_challenge` of a verifier, method S256 (RFC 7636 section 4.2).
#[must_use]
pub fn pkce_challenge(verifier: &SecretString) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose_secret()))
}

impl LarkClient {
    /// Returns the address of the consent page. The address contains `state`: only the person may see it, and no log.
    #[must_use]
    pub fn authorize_url(&self, request: &AuthorizeRequest<'_>) -> Url {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", self.options().app_id.as_str())
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", request.redirect_uri.as_str())
            .append_pair("scope", &request.scopes.join(" "))
            .append_pair("state", request.state.expose_secret())
            .append_pair("code_challenge", request.code_challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        let mut url = self.accounts_url("/open-apis/authen/v1/authorize");
        // `%20` is a space for every parser; `+` is a space only for a form parser.
        url.set_query(Some(&query.replace('+', "%20")));
        url
    }

    /// Exchanges an authorization code for a pair of tokens. Returns by `deadline`; with too little time left the code is
    /// not sent. The code works once: see [`LarkError::outcome`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidGrant`] when the code is expired, used or unknown; otherwise the kind of Lark's code.
    pub async fn exchange_code(
        &self,
        api: TokenApi,
        grant: &CodeGrant,
        deadline: Instant,
    ) -> Result<TokenPair, LarkError> {
        let exchange = EXCHANGE.with_deadline(deadline);
        let code = grant.code.expose_secret();
        let result = match api {
            TokenApi::V2 => {
                let mut body = self.v2_body("authorization_code");
                body["code"] = code.into();
                body["redirect_uri"] = grant.redirect_uri.as_str().into();
                if let Some(verifier) = &grant.code_verifier {
                    body["code_verifier"] = verifier.expose_secret().into();
                }
                self.v2_token(exchange, &body).await
            }
            TokenApi::V1 => {
                let body = json!({ "grant_type": "authorization_code", "code": code });
                self.v1_token(exchange, V1_EXCHANGE, &body).await
            }
        };
        result.map_err(as_grant_error)
    }

    /// Exchanges a refresh token for a new pair of tokens. Returns by `deadline`; with too little time left the token is not
    /// sent. The token works once: see [`LarkError::outcome`].
    ///
    /// # Errors
    /// [`ErrorKind::RefreshTokenInvalid`] when the refresh token is expired, revoked or used; otherwise the kind of Lark's
    /// code.
    pub async fn refresh(
        &self,
        api: TokenApi,
        refresh_token: &SecretString,
        deadline: Instant,
    ) -> Result<TokenPair, LarkError> {
        let refresh = REFRESH.with_deadline(deadline);
        let refresh_token = refresh_token.expose_secret();
        let result = match api {
            TokenApi::V2 => {
                let mut body = self.v2_body("refresh_token");
                body["refresh_token"] = refresh_token.into();
                self.v2_token(refresh, &body).await
            }
            TokenApi::V1 => {
                let body = json!({ "grant_type": "refresh_token", "refresh_token": refresh_token });
                self.v1_token(refresh, V1_REFRESH, &body).await
            }
        };
        // RFC 6749's `invalid_grant` does not name the kind of grant.
        result.map_err(|error| match (&error.kind, error.cause) {
            (ErrorKind::InvalidGrant, Cause::OAuth) => {
                LarkError { kind: ErrorKind::RefreshTokenInvalid, ..error }
            }
            _ => error,
        })
    }

    /// Starts a device flow. Requires no redirect URI and no public address.
    ///
    /// # Errors
    /// The error that Lark's code means.
    pub async fn device_authorization(&self, scopes: &[String]) -> Result<DeviceAuthorization, LarkError> {
        let sent_at = self.options().clock.now();
        let url = self.accounts_url("/oauth/v1/device_authorization");
        let scope = scopes.join(" ");
        let build = || {
            self.options()
                .http
                .post(url.clone())
                .basic_auth(&self.options().app_id, Some(self.options().app_secret.expose_secret()))
                .form(&[("client_id", self.options().app_id.as_str()), ("scope", &scope)])
        };
        let read = |answer: &Fields| {
            let interval = answer.seconds("interval").and_then(|seconds| u64::try_from(seconds).ok());
            let lifetime = lifetime(answer, &["expires_in"]).unwrap_or(DEFAULT_DEVICE_LIFETIME);
            Some(DeviceAuthorization {
                device_code: usable(answer.secret("device_code")?)?,
                user_code: user_code(answer.secret("user_code")?)?,
                verification_uri: page(&answer.text("verification_uri")?)?,
                verification_uri_complete: answer
                    .secret("verification_uri_complete")
                    .filter(|address| page(address.expose_secret()).is_some()),
                expires_at: sent_at + lifetime,
                interval: Duration::from_secs(interval.unwrap_or(DEFAULT_POLL_INTERVAL).clamp(1, 60)),
            })
        };
        self.call(DEVICE_AUTHORIZATION, Repeat::Never, build, read).await
    }

    /// Asks once whether the person has consented, and returns the pair of tokens if so. Returns by `deadline`; with too
    /// little time left Lark is not asked.
    ///
    /// # Errors
    /// [`ErrorKind::AuthorizationPending`] before the person has answered, [`ErrorKind::AccessDenied`] when the person
    /// declined, [`ErrorKind::DeviceCodeExpired`] or [`ErrorKind::InvalidGrant`] when the device code is over.
    pub async fn poll_device_code(
        &self,
        device_code: &SecretString,
        deadline: Instant,
    ) -> Result<TokenPair, LarkError> {
        let mut body = self.v2_body("urn:ietf:params:oauth:grant-type:device_code");
        body["device_code"] = device_code.expose_secret().into();
        self.v2_token(DEVICE_POLL.with_deadline(deadline), &body).await.map_err(as_grant_error)
    }

    fn v2_body(&self, grant_type: &str) -> Value {
        json!({
            "grant_type": grant_type,
            "client_id": self.options().app_id,
            "client_secret": self.options().app_secret.expose_secret(),
        })
    }

    async fn v2_token(&self, api: Api, body: &Value) -> Result<TokenPair, LarkError> {
        let sent_at = self.options().clock.now();
        let build = || self.options().http.post(self.api_url(V2)).json(body);
        self.call(api, Repeat::Never, build, |answer| pair(answer, sent_at)).await
    }

    async fn v1_token(&self, api: Api, path: &str, body: &Value) -> Result<TokenPair, LarkError> {
        let app_token = api.prepare(self.app_access_token()).await?;
        let sent_at = self.options().clock.now();
        let build =
            || self.options().http.post(self.api_url(path)).bearer_auth(app_token.expose_secret()).json(body);
        let result = self.call(api, Repeat::Never, build, |answer| pair(answer, sent_at)).await;
        if result.as_ref().is_err_and(LarkError::refuses_app_token) {
            self.inner.app_token.invalidate(&app_token);
        }
        result.map_err(as_app_token_error)
    }
}

/// Returns the user code if a person can type it.
fn user_code(code: SecretString) -> Option<SecretString> {
    let fits = (1..=MAX_USER_CODE).contains(&code.expose_secret().len());
    (fits && code.expose_secret().bytes().all(|byte| byte.is_ascii_graphic())).then_some(code)
}

/// Returns the address of a device page if a browser opens it.
fn page(address: &str) -> Option<Url> {
    let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    (url.as_str().len() <= MAX_VERIFICATION_URI).then_some(url)
}

/// Replaces the kind of an invalid token by that of an invalid code: an exchange sends a code, not a refresh token.
fn as_grant_error(error: LarkError) -> LarkError {
    match error.kind {
        ErrorKind::RefreshTokenInvalid => LarkError { kind: ErrorKind::InvalidGrant, ..error },
        _ => error,
    }
}

/// Reads the response of the token endpoint in both versions. One usable token is required: the code or refresh token that
/// was sent is used up, and everything else has a default. Lifetimes are counted from the time of sending. They start
/// later, so that no expiry is too late.
///
/// A refresh token without a usable access token is taken unless the response names an error. Its access token is empty and
/// has expired.
fn pair(answer: &Fields, sent_at: Timestamp) -> Option<TokenPair> {
    let access_token = answer.secret("access_token").and_then(usable);
    let refresh_token = answer.secret("refresh_token").and_then(usable);
    if access_token.is_none() && (refresh_token.is_none() || answer.names_error()) {
        return None;
    }
    let access_lifetime = match access_token {
        Some(_) => lifetime(answer, &["expires_in", "expire"]).unwrap_or(DEFAULT_LIFETIME),
        None => Duration::ZERO,
    };
    let refresh_lifetime = lifetime(answer, &["refresh_token_expires_in", "refresh_expires_in"]);
    Some(TokenPair {
        access_token: access_token.unwrap_or_default(),
        access_expires_at: sent_at + access_lifetime,
        refresh_expires_at: refresh_token.as_ref().and(refresh_lifetime).map(|lifetime| sent_at + lifetime),
        refresh_token,
        scopes: answer.words("scope").into_iter().filter(|scope| is_scope(scope)).take(MAX_GRANTED).collect(),
    })
}

/// Returns whether this is a `scope-token` of RFC 6749 of a sensible length. Anything else is no scope, and no database has to
/// take it.
fn is_scope(word: &str) -> bool {
    (1..=MAX_SCOPE).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
