//! The device flow's own endpoints (RFC 8628).

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::call::{Call, chosen};
use crate::{
    faults::Endpoint,
    pages::{self, Notice},
    rules::devices::PAGE_PATH,
    state::codes::Refusal,
};

/// Answers `device_authorization`.
pub(crate) async fn start(call: Call) -> Response {
    let fields = call.fields();
    let basic = call.basic();
    let app_id = fields.get("client_id").unwrap_or_default();
    call.run(Endpoint::DeviceAuthorization, Some(app_id), |state, now, _| {
        let Some((user, secret)) = &basic else { return Refusal::oauth(20001).oauth_response() };
        if user != app_id {
            return Refusal::oauth(20070).oauth_response();
        }
        if let Err(refusal) = state.authenticate(app_id, secret) {
            return refusal.oauth_response();
        }
        let started = state.start_device(now, app_id, fields.get("scope").unwrap_or_default());
        let page = format!("{}{PAGE_PATH}", call.sim.accounts_url());
        Json(json!({
            "device_code": started.device_code, "user_code": started.user_code, "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code={}", started.user_code),
            "expires_in": state.lifetimes.device.as_secs(), "interval": state.lifetimes.device_interval.as_secs(),
        }))
        .into_response()
    })
    .await
}

/// Answers `GET`: the page that asks for the user code, then for a decision.
pub(crate) async fn page(call: Call) -> Response {
    let now = call.sim.now();
    let state = call.sim.state();
    let Some(user_code) = call.param("user_code").map(str::to_uppercase).filter(|code| !code.is_empty())
    else {
        return pages::ask_user_code(call.chinese());
    };
    match state.pending_device(now, &user_code) {
        Some(device) => pages::device(&state, device, &user_code, call.chinese()),
        None => pages::notice(StatusCode::NOT_FOUND, Notice::UnknownCode, call.chinese()),
    }
}

/// Answers `POST`: the decision of the person.
pub(crate) async fn decide(call: Call) -> Response {
    let fields = call.fields();
    let now = call.sim.now();
    let user_code = fields.get("user_code").unwrap_or_default();
    let decided = call.sim.state().decide_device(now, user_code, chosen(&fields));
    call.sim.changed();
    match (decided, chosen(&fields)) {
        (false, _) => pages::notice(StatusCode::NOT_FOUND, Notice::UnknownCode, call.chinese()),
        (true, Some(_)) => pages::notice(StatusCode::OK, Notice::Agreed, call.chinese()),
        (true, None) => pages::notice(StatusCode::OK, Notice::Refused, call.chinese()),
    }
}
