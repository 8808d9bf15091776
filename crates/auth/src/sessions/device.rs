//! Device authorizations (RFC 8628): the codes with which a card's page opens and Lark is polled.

use std::time::Duration;

use larkauth_lark::error::{ErrorKind, LarkError};
use larkauth_models::{AuthMethod, AuthSession, DeviceGrant, FailureReason, TokenApi};

use crate::{apps::App, context::Context, error::AuthError};

/// A session with new codes.
pub(crate) struct DeviceAuthorized {
    /// The session as it is then.
    pub(crate) session: AuthSession,
    /// Shortest time between two polls with its codes.
    pub(crate) interval: Duration,
}

impl Context {
    /// Returns a session whose card can be shown: a pending session of the device flow has codes that are valid. A session for
    /// which Lark starts no device authorization, or whose tokens could not be refreshed, fails, and is returned as it is then.
    ///
    /// # Errors
    /// Lark's that pass by themselves, and the store's.
    pub(crate) async fn with_device_codes(
        &self,
        app: &App,
        session: AuthSession,
    ) -> Result<AuthSession, AuthError> {
        let is_valid = session.device.as_ref().is_some_and(|device| device.expires_at > self.now());
        if session.auth_method != AuthMethod::DeviceCode || session.state.is_final() || is_valid {
            return Ok(session);
        }
        if app.application.token_api != TokenApi::V2 {
            tracing::error!(
                session_id = %session.id, app_id = %session.app_id,
                "auth.device.token_api: the token API v1 refuses to refresh the tokens of the device flow; register the \
                 application with v2, or use another auth_method"
            );
            self.fail_invitation(&session, FailureReason::AppMisconfigured).await?;
            return self.existing_session(session.id).await;
        }
        match self.authorize_device(app, &session).await {
            Ok(authorized) => {
                if session.message_id.is_some() {
                    // In case the answer that shows the codes arrives too late.
                    let delay = self.policy.after_answer_delay;
                    self.request_card_face(&session.app_id, session.id, delay).await?;
                }
                Ok(authorized.session)
            }
            Err(AuthError::Lark(error)) => match self.device_refusal(app, &error).await? {
                Some(reason) => {
                    self.fail_invitation(&session, reason).await?;
                    self.existing_session(session.id).await
                }
                None => Err(error.into()),
            },
            Err(error) => Err(error),
        }
    }

    /// Starts a device authorization, and stores its codes in place of those that the session has. Codes that another worker
    /// stored meanwhile stay.
    ///
    /// # Errors
    /// Lark's and the store's.
    pub(crate) async fn authorize_device(
        &self,
        app: &App,
        session: &AuthSession,
    ) -> Result<DeviceAuthorized, AuthError> {
        let authorization = app.client.device_authorization(&session.scopes).await?;
        let interval = authorization.interval;
        let replaces = session.device.as_ref().map(|device| device.expires_at);
        let grant = DeviceGrant {
            device_code: authorization.device_code,
            user_code: authorization.user_code,
            verification_uri: authorization.verification_uri,
            verification_uri_complete: authorization.verification_uri_complete,
            expires_at: authorization.expires_at,
            is_card_stale: replaces.is_some(),
        };
        if !self.store.record_device_grant(session.id, replaces, &grant, interval).await? {
            tracing::info!(
                "auth.device.superseded: the session has ended, or another worker authorized the device first"
            );
        }
        Ok(DeviceAuthorized { session: self.existing_session(session.id).await?, interval })
    }

    /// Returns the reason with which a session fails for which Lark starts no device authorization. An application that Lark
    /// refuses opens its breaker; one without the device grant, or without a scope of this session, does not: its other
    /// sessions and its refreshes go on. `None`: a later attempt may succeed.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn device_refusal(
        &self,
        app: &App,
        error: &LarkError,
    ) -> Result<Option<FailureReason>, AuthError> {
        let reason = match error.kind {
            ErrorKind::Transient | ErrorKind::RateLimited | ErrorKind::Unknown => return Ok(None),
            ErrorKind::User => FailureReason::UserUnavailable,
            ErrorKind::App => {
                let app_id = &app.application.app_id;
                self.apps.breaker().open(app_id, &error.to_string(), self.now()).await?;
                FailureReason::AppMisconfigured
            }
            _ => FailureReason::AppMisconfigured,
        };
        tracing::error!(%error, %reason, "auth.device.authorization_refused");
        Ok(Some(reason))
    }
}
