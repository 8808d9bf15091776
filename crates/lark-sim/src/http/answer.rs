//! Who calls, by the token it carries, and the answers that several groups of endpoints share.

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

/// `{"code":0,"msg":"success","data":…}`.
pub(crate) fn success(data: &Value) -> Response {
    Json(json!({"code": 0, "msg": "success", "data": data})).into_response()
}

/// The application whose tenant token this is.
pub(crate) fn tenant_app(state: &State, now: Timestamp, bearer: &str) -> Result<String, Refusal> {
    if bearer.is_empty() {
        return Err(Refusal::new(400, 99_991_661, "Missing access token for authorization."));
    }
    match state.access(bearer) {
        Some(Access { app_id, owner: Owner::Tenant, expires_at }) if now < *expires_at => Ok(app_id.clone()),
        _ => Err(Refusal::new(400, 99_991_663, "Invalid access token for authorization.")),
    }
}

/// The application and the person whose user token this is.
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

/// Whose token it is, expired or not: decides which planned misbehaviour applies.
pub(crate) fn bearer_app(sim: &Sim, bearer: &str) -> Option<String> {
    sim.state().access(bearer).map(|access| access.app_id.clone())
}

/// A refusal or an answer, both as a response.
pub(crate) fn flatten(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(IntoResponse::into_response)
}
