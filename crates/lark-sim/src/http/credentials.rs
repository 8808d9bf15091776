use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::call::Call;
use crate::{faults::Endpoint, state::grants::Owner};

/// Answers `tenant_access_token/internal`.
pub(crate) async fn tenant(call: Call) -> Response {
    shared(call, Endpoint::TenantToken, Owner::Tenant, "tenant_access_token").await
}

/// Answers `app_access_token/internal`.
pub(crate) async fn app(call: Call) -> Response {
    shared(call, Endpoint::AppToken, Owner::App, "app_access_token").await
}

async fn shared(call: Call, endpoint: Endpoint, owner: Owner, name: &str) -> Response {
    let fields = call.fields();
    let (app_id, secret) =
        (fields.get("app_id").unwrap_or_default(), fields.get("app_secret").unwrap_or_default());
    call.run(endpoint, Some(app_id), |state, now, _| {
        if let Err(refusal) = state.authenticate(app_id, secret) {
            let (code, msg) = match refusal.code {
                20002 => (10_014, "app secret invalid"),
                20069 => (10_005, "app is not enabled"),
                _ => (10_003, "invalid param"),
            };
            return Json(json!({"code": code, "msg": msg})).into_response();
        }
        let (token, expire) = state.shared_token(now, app_id, owner);
        let mut body = json!({"code": 0, "msg": "ok", "expire": expire});
        body[name] = Value::from(token);
        Json(body).into_response()
    })
    .await
}
