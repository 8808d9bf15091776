//! The platform's error codes, and their form in each family of endpoints.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A refusal of the open API: `{"code","msg"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: i64,
    pub(crate) msg: &'static str,
    /// Whole seconds for `x-ogw-ratelimit-reset`.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) const fn new(status: u16, code: i64, msg: &'static str) -> Self {
        Self { status, code, msg, retry_after: None }
    }

    /// Returns the gateway's rate limit.
    pub(crate) const fn too_many_requests(seconds: u64) -> Self {
        Self {
            status: 429,
            code: 99_991_400,
            msg: "request trigger frequency limit",
            retry_after: Some(seconds),
        }
    }

    /// Returns one of the token endpoint's codes.
    pub(crate) const fn oauth(code: i64) -> Self {
        let (_, msg) = oauth_text(code);
        let status = match code {
            20050 => 500,
            20072 => 503,
            _ => 400,
        };
        Self::new(status, code, msg)
    }

    /// Returns the body of the token endpoint's current version.
    pub(crate) fn oauth_response(&self) -> Response {
        if self.retry_after.is_some() {
            return self.clone().into_response();
        }
        let (error, _) = oauth_text(self.code);
        self.respond(json!({"code": self.code, "error": error, "error_description": self.msg}))
    }

    /// Returns the body of the token endpoint's historical version: always HTTP 200, unless the gateway refused.
    pub(crate) fn oidc_response(&self) -> Response {
        if self.retry_after.is_some() {
            return self.clone().into_response();
        }
        Json(json!({"code": self.code, "msg": self.msg})).into_response()
    }

    fn respond(&self, body: Value) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert("x-ogw-ratelimit-reset", seconds.into());
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"code": self.code, "msg": self.msg});
        self.respond(body)
    }
}

/// `error` and `error_description` of a token endpoint code.
const fn oauth_text(code: i64) -> (&'static str, &'static str) {
    match code {
        20001 => ("invalid_request", "The request is missing a required parameter."),
        20002 => ("invalid_client", "The client secret is invalid."),
        20003 => ("invalid_grant", "The authorization code is not found."),
        20004 => ("invalid_grant", "The authorization code has expired."),
        20008 => ("invalid_grant", "The user does not exist."),
        20009 => ("unauthorized_client", "The specified app is not installed."),
        20010 => ("access_denied", "The user does not have permission to use this app."),
        20024 => ("invalid_grant", "The authorization code or refresh token does not match the client ID."),
        20026 => ("invalid_grant", "The refresh token is invalid."),
        20036 => ("unsupported_grant_type", "The specified grant_type is not supported."),
        20037 => ("invalid_grant", "The refresh token has expired."),
        20048 => ("invalid_client", "The specified app does not exist."),
        20049 => ("invalid_grant", "PKCE code challenge failed."),
        20050 => ("server_error", "An unexpected server error occurred. Please retry your request."),
        20063 => ("invalid_request", "The request is malformed."),
        20064 => ("invalid_grant", "The refresh token has been revoked."),
        20065 => ("invalid_grant", "The authorization code has been used."),
        20066 => ("invalid_grant", "The user status is invalid."),
        20067 => ("invalid_scope", "The scope list contains duplicate scopes."),
        20068 => ("invalid_scope", "The scope list contains scopes that were not granted."),
        20069 => ("invalid_client", "The specified app is not enabled."),
        20070 => ("invalid_request", "Multiple authentication methods were provided."),
        20071 => ("invalid_grant", "The redirect URI does not match."),
        20072 => ("temporarily_unavailable", "The server is temporarily unavailable."),
        20073 => ("invalid_grant", "The refresh token has been used."),
        20074 => ("unauthorized_client", "Refreshing tokens is not enabled for the specified app."),
        _ => ("server_error", "Unknown error."),
    }
}
