//! The caller of an endpoint, by its token, and the answers that several groups of endpoints share.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use larkauth_models::Timestamp;
use serde_json::{Value, json};

use crate::{
    sim::Sim,
    state::{
        State,
        codes::Refusal,
        grants::{Access, Owner},
    },
};

/// Returns `{"code":0,"msg":"success","data":…}`.
pub(crate) fn success(data: &Value) -> Response {
    Json(json!({"code": 0, "msg": "success", "data": data})).into_response()
}

/// Returns the application of a tenant token.
pub(crate) fn tenant_app(state: &State, now: Timestamp, bearer: &str) -> Result<String, Refusal> {
    if bearer.is_empty() {
        return Err(Refusal::new(400, 99_991_661, "Missing access token for authorization."));
    }
    match state.access(bearer) {
        Some(Access { app_id, owner: Owner::Tenant, expires_at }) if now < *expires_at => Ok(app_id.clone()),
        _ => Err(Refusal::new(400, 99_991_663, "Invalid access token for authorization.")),
    }
}

/// Returns the application and the person of a user token.
pub(crate) fn user_of(state: &State, now: Timestamp, bearer: &str) -> Result<(String, String), Refusal> {
    match state.access(bearer) {
        Some(Access { app_id, owner: Owner::User(union_id), expires_at }) if now < *expires_at => {
            Ok((app_id.clone(), union_id.clone()))
        }
        Some(Access { owner: Owner::User(_), .. }) => {
            Err(Refusal::new(401, 99_991_677, "Authentication token expired"))
        }
        _ => Err(Refusal::new(400, 99_991_668, "Invalid access token for authorization.")),
    }
}

/// Returns the application of a token, expired or not. It decides which planned fault applies.
pub(crate) fn bearer_app(sim: &Sim, bearer: &str) -> Option<String> {
    sim.state().access(bearer).map(|access| access.app_id.clone())
}

/// Converts a refusal or an answer to a response.
pub(crate) fn flatten(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(IntoResponse::into_response)
}
