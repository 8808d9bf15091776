//! Bodies of the REST API.

use larkauth_models::{
    AppId, AuditAction, AuthMethod, AuthSession, CardOptions, FailureReason, OpenId, SessionId, SessionState,
    Timestamp, UserId,
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
    /// Application that requests the authorization.
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
    /// Method of authorization; `websocket_card` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::AuthMethod>))]
    pub auth_method: Option<AuthMethod>,
    /// Requested scopes, at most 50; by default those of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Content options of the card; by default those of the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<CardRequest>,
}

/// Content options of the card. An absent option is taken from the settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CardRequest {
    /// True for the detailed card, false for the concise one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_description: Option<bool>,
    /// Card template of the developer console.
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
    /// Returns the options, completed by the defaults.
    #[must_use]
    pub fn or(self, defaults: &CardOptions) -> CardOptions {
        CardOptions {
            include_description: self.include_description.unwrap_or(defaults.include_description),
            template_id: self.template_id.or_else(|| defaults.template_id.clone()),
            custom_message: self.custom_message.or_else(|| defaults.custom_message.clone()),
            privacy_policy_url: self.privacy_policy_url.or_else(|| defaults.privacy_policy_url.clone()),
            app_name: defaults.app_name.clone(),
            requested_by: defaults.requested_by.clone(),
            reauthorize: None,
        }
    }
}

/// An authorization session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionView {
    /// Session id.
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
    /// Display name of the person, after consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Method of authorization.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::AuthMethod))]
    pub auth_method: AuthMethod,
    /// State of the session.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::SessionState))]
    pub state: SessionState,
    /// Reason of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::FailureReason>))]
    pub failure_reason: Option<FailureReason>,
    /// Requested scopes.
    pub scopes: Vec<String>,
    /// Scopes that Lark granted, after consent. Earlier consents to the same application are part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted_scopes: Option<Vec<String>>,
    /// Requested scopes that were not granted, after consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_scopes: Option<Vec<String>>,
    /// True after the card was sent.
    pub card_sent: bool,
    /// Address of the consent page, for pending `oauth` sessions. Show it to the invited person only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize_url: Option<String>,
    /// Time of creation.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// Time of expiry.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// Time of completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub completed_at: Option<Timestamp>,
}

impl From<AuthSession> for SessionView {
    /// Converts without the address of the consent page, which only its endpoint shows.
    fn from(session: AuthSession) -> Self {
        Self {
            missing_scopes: session.missing_scopes(),
            granted_scopes: session.granted_scopes,
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
    /// Seconds to wait for a change of the state, at most 50: proxies give up after 60.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", param(maximum = 50))]
    pub wait: u16,
}

/// `GET /v1/auth/sessions`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct ListSessions {
    /// Sessions of this application.
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub app_id: Option<AppId>,
    /// Sessions of this person.
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub open_id: Option<OpenId>,
    /// Sessions in this state.
    #[cfg_attr(feature = "openapi", param(value_type = Option<schema::SessionState>))]
    pub state: Option<SessionState>,
    /// Size of the page, 1 to 200; 50 by default.
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 200))]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

/// One page of sessions, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionPage {
    /// The sessions.
    pub items: Vec<SessionView>,
    /// Start of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `GET /v1/apps/{app_id}/users/{open_id}/token`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct TokenQuery {
    /// Seconds for which the token must still be valid; 60 by default, at most 3600. At most half of the token's life counts.
    #[serde(default = "one_minute")]
    #[cfg_attr(feature = "openapi", param(maximum = 3600))]
    pub min_validity: u32,
    /// Action when there is no valid token, or one without a required scope: none, or send a card.
    #[serde(default)]
    pub on_missing: OnMissing,
    /// Scopes that the token must have, separated by spaces. A token without one of them is not served:
    /// `insufficient_scope`. With `on_missing=card` the person is asked for them, and for those that are granted already.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", param(example = "calendar:calendar:readonly docx:document"))]
    pub scopes: String,
}

const fn one_minute() -> u32 {
    60
}

/// `POST /v1/apps/{app_id}/users/{open_id}/token/refresh`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({"generation": 3})))]
#[serde(deny_unknown_fields)]
pub struct RefreshToken {
    /// The generation of the token that the caller has. A newer one is returned without another refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}

/// Action when there is no valid token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// Returns the problem document only.
    #[default]
    None,
    /// Sends a card; the problem document has the `session_id`.
    Card,
}

/// A valid access token. No other response contains a token.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Access token, to be sent as `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// Time of expiry.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
    /// Granted scopes.
    pub scopes: Vec<String>,
    /// Number of tokens that this person's login has had: 1 after the consent, one more with each refresh.
    pub generation: i64,
}

impl std::fmt::Debug for TokenView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenView").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// `GET /v1/audit`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct AuditQuery {
    /// Records about this application.
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>))]
    pub app_id: Option<AppId>,
    /// Records about this person: an open id, a user id, or the pseudonym of an erased person.
    pub person: Option<String>,
    /// Records of the actor with this id: an API key's id, an operator's account, a service's name, or an open id.
    pub actor: Option<String>,
    /// Records of this action.
    #[cfg_attr(feature = "openapi", param(value_type = Option<schema::AuditAction>))]
    pub action: Option<AuditAction>,
    /// Records from this time on.
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>, format = DateTime))]
    pub since: Option<Timestamp>,
    /// Records before this time.
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>, format = DateTime))]
    pub until: Option<Timestamp>,
    /// Size of the page, 1 to 200; 50 by default.
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 200))]
    pub limit: Option<u32>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

/// One page of audit records, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// The records.
    pub items: Vec<AuditRecordView>,
    /// Start of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Who did what, to what, when, from where, and with which result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecordView {
    /// Id of the record.
    pub id: uuid::Uuid,
    /// Time of the act.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// `api_key`, `operator`, `service` or `person`.
    pub actor_kind: String,
    /// Id of the API key, account of the operator, name of the service, or open id of the person.
    pub actor_id: String,
    /// Name of the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_name: Option<String>,
    /// One of the actions of the filter, or one of another version.
    pub action: String,
    /// The application concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// The person concerned: the open id, else the user id; `erased:…` after an erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// The session concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<uuid::Uuid>,
    /// The API key concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<uuid::Uuid>,
    /// The client's address, or the host of an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Id of the HTTP request (`X-Request-Id`) or of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Id of the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// `ok`, `refused` (a rule, or nothing to do it to) or `failed` (a part of the service).
    pub outcome: String,
    /// Code of the reason, unless the outcome is `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of reads that the record stands for: this one, and the same caller's reads of the same token within the second
    /// after it. 1 for everything else.
    #[serde(default = "one")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub count: i32,
    /// Id of the encryption key concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<String>,
}

const fn one() -> i32 {
    1
}
