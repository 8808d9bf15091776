//! RFC 9457 problem documents with stable codes.

use std::time::Duration;

use larkauth_models::SessionId;
use serde::{Deserialize, Serialize};

// `$code` is a `tt`: utoipa's derive does not look into a `literal` and would document the variant's name instead.
macro_rules! problems {
    ($($(#[$meta:meta])* $variant:ident = $code:tt, $status:literal, $title:literal;)+) => {
        /// Error codes of the API. Codes are stable; titles may be reworded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum ProblemCode { $($(#[$meta])* #[serde(rename = $code)] $variant),+ }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Returns the stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $code),+ } }
            /// Returns the HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 { match self { $(Self::$variant => $status),+ } }
            /// Returns one line for people.
            #[must_use]
            pub const fn title(self) -> &'static str { match self { $(Self::$variant => $title),+ } }
        }
    };
}

problems! {
    /// The request's body, path or query is not of the documented form.
    InvalidRequest = "invalid_request", 400, "The request is not of the documented form";
    /// The API key is missing or unknown.
    Unauthorized = "unauthorized", 401, "A valid API key is needed";
    /// The API key may not do this.
    Forbidden = "forbidden", 403, "This API key may not do that";
    /// The stored token has not all required scopes.
    InsufficientScope = "insufficient_scope", 403, "This person has not granted every required scope";
    /// The callback could not be verified as a callback of Lark.
    CallbackRejected = "callback_rejected", 403, "This callback could not be verified";
    /// No such path.
    NotFound = "not_found", 404, "There is nothing here";
    /// No such application.
    AppNotFound = "app_not_found", 404, "This application is not registered";
    /// No such session.
    SessionNotFound = "session_not_found", 404, "There is no such session";
    /// No valid token is stored: the person must authorize.
    AuthenticationRequired = "authentication_required", 404, "This person has not authorized, or the authorization has ended";
    /// Wrong method.
    MethodNotAllowed = "method_not_allowed", 405, "This path does not take that method";
    /// The body arrived too slowly.
    RequestTimeout = "request_timeout", 408, "The request body did not arrive in time";
    /// The application is switched off.
    AppDisabled = "app_disabled", 409, "This application is switched off";
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused = "idempotency_key_reused", 422, "This Idempotency-Key belongs to another request";
    /// Too large.
    PayloadTooLarge = "payload_too_large", 413, "The request body is too large";
    /// Not JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, "The request body must be JSON";
    /// Too many invitations.
    RateLimited = "rate_limited", 429, "Too many requests";
    /// An internal error.
    Internal = "internal_error", 500, "Something went wrong on our side";
    /// The app-level breaker is open.
    AppFrozen = "app_frozen", 503, "Lark refuses this application at present";
    /// Another request refreshes the token.
    RefreshInProgress = "refresh_in_progress", 503, "The token is being refreshed";
    /// Lark gives no new token.
    UpstreamUnavailable = "upstream_unavailable", 503, "Lark does not give a new token at present";
    /// Database or broker down.
    Unavailable = "service_unavailable", 503, "A part this service needs is not available";
    /// The request took too long.
    Timeout = "timeout", 504, "The request took too long";
}

/// The body of every error response, `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Page about this code.
    pub r#type: String,
    /// One line for people.
    pub title: String,
    /// HTTP status of the response.
    #[cfg_attr(feature = "openapi", schema(minimum = 400, maximum = 599))]
    pub status: u16,
    /// What happened and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The stable code.
    pub code: ProblemCode,
    /// Request id, to report to the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Session that was created by this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<uuid::Uuid>))]
    pub session_id: Option<SessionId>,
    /// Required scopes that the token has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_scopes: Vec<String>,
    /// Seconds to wait, as in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub retry_after: Option<u64>,
}

/// Returns the whole seconds that a caller is told to wait, in `Retry-After` and in the text: rounded up, because an attempt
/// within the last fraction of a second would be too early, and at least 1.
#[must_use]
pub fn seconds_to_wait(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl ProblemCode {
    /// Creates a problem document of this code.
    #[must_use]
    pub fn document(self, detail: Option<String>) -> Problem {
        Problem {
            r#type: format!("/docs/problems#{}", self.as_str()),
            title: self.title().to_owned(),
            status: self.status(),
            detail,
            code: self,
            request_id: None,
            session_id: None,
            missing_scopes: Vec::new(),
            retry_after: None,
        }
    }
}
