//! Bodies of the REST API.

use larkauth_models::{
    AppId, AuthMethod, AuthSession, CardOptions, FailureReason, OpenId, SessionId, SessionState, Timestamp,
    UserId,
};
use serde::{Deserialize, Serialize};

#[cfg(feature = "openapi")]
use crate::schema;

/// `POST /v1/auth/sessions`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", schema(example = json!({"app_id": "cli_0123456789abcdef", "open_id": "ou_7d8a6e6df7621556ce0d21922b676706"})))]
pub struct CreateSession {
    /// The application that asks.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub app_id: AppId,
    /// The person; either this or `user_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub open_id: Option<OpenId>,
    /// The person; either this or `open_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub user_id: Option<UserId>,
    /// The way to take; `websocket_card` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::AuthMethod>))]
    pub auth_method: Option<AuthMethod>,
    /// What to ask for, at most 50; the application's default by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// How the card looks; the settings' default by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<CardRequest>,
}

/// How the card looks. What is left out is as in the settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CardRequest {
    /// Detailed or concise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_description: Option<bool>,
    /// A template of the developer console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// One paragraph, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 1000))]
    pub custom_message: Option<String>,
    /// `https` address of the privacy policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uri"))]
    pub privacy_policy_url: Option<url::Url>,
}

impl CardRequest {
    /// Fills in what was left out.
    #[must_use]
    pub fn or(self, defaults: &CardOptions) -> CardOptions {
        CardOptions {
            include_description: self.include_description.unwrap_or(defaults.include_description),
            template_id: self.template_id.or_else(|| defaults.template_id.clone()),
            custom_message: self.custom_message.or_else(|| defaults.custom_message.clone()),
            privacy_policy_url: self.privacy_policy_url.or_else(|| defaults.privacy_policy_url.clone()),
        }
    }
}

/// A session as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = uuid::Uuid))]
    pub session_id: SessionId,
    /// The application.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub app_id: AppId,
    /// The person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub open_id: Option<OpenId>,
    /// The person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub user_id: Option<UserId>,
    /// The person's display name, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The way it takes.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::AuthMethod))]
    pub auth_method: AuthMethod,
    /// Where it stands.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::SessionState))]
    pub state: SessionState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::FailureReason>))]
    pub failure_reason: Option<FailureReason>,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// Whether the card has been sent.
    pub card_sent: bool,
    /// The consent page, for `oauth` sessions while pending: show it to this person and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize_url: Option<String>,
    /// When it was asked for.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// When it ends by itself.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// When it ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub completed_at: Option<Timestamp>,
}

impl From<AuthSession> for SessionView {
    /// Without the consent page's address, which is shown where it is needed and nowhere else.
    fn from(session: AuthSession) -> Self {
        Self {
            session_id: session.id,
            app_id: session.app_id,
            open_id: session.person.open_id,
            user_id: session.person.user_id,
            user_name: session.user_name,
            auth_method: session.auth_method,
            state: session.state,
            failure_reason: session.failure_reason,
            scopes: session.scopes,
            card_sent: session.message_id.is_some(),
            authorize_url: None,
            created_at: session.created_at,
            expires_at: session.expires_at,
            completed_at: session.completed_at,
        }
    }
}

/// `GET /v1/auth/sessions/{id}`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams, utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct WaitQuery {
    /// Answer when the state changes, or after so many seconds (at most 60).
    #[serde(default)]
    #[cfg_attr(feature = "openapi", param(maximum = 60))]
    pub wait: u16,
}

/// `GET /v1/auth/sessions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct ListSessions {
    /// Of this application.
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub app_id: Option<AppId>,
    /// Of this person.
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub open_id: Option<OpenId>,
    /// In this state.
    #[cfg_attr(feature = "openapi", param(value_type = Option<schema::SessionState>))]
    pub state: Option<SessionState>,
    /// At most so many, 1 to 200; 50 by default.
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 200))]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// One page of sessions, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionPage {
    /// The sessions.
    pub items: Vec<SessionView>,
    /// Where the next page starts; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `GET /v1/apps/{app_id}/users/{open_id}/token`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct TokenQuery {
    /// Seconds the token must still live; 60 by default, at most 3600.
    #[serde(default = "one_minute")]
    #[cfg_attr(feature = "openapi", param(maximum = 3600))]
    pub min_validity: u32,
    /// What to do when there is none: nothing, or send a card.
    #[serde(default)]
    pub on_missing: OnMissing,
}

const fn one_minute() -> u32 {
    60
}

/// See [`TokenQuery::on_missing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// Only say so.
    #[default]
    None,
    /// Send an invitation; the problem document carries its `session_id`.
    Card,
}

/// A valid token. The one place where a token leaves larkauth.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Send it as `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// What was granted.
    pub scopes: Vec<String>,
    /// Counts refreshes.
    pub generation: i64,
}

impl std::fmt::Debug for TokenView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenView").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
