use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{answer::success, call::Call};
use crate::{faults::Endpoint, ws};

/// Answers with the URL of the long connection.
pub(crate) async fn endpoint(call: Call) -> Response {
    let body = call.json();
    let app_id = body["AppID"].as_str().unwrap_or_default();
    let secret = body["AppSecret"].as_str().unwrap_or_default();
    let (host, config) =
        (call.sim.base_url().replacen("http", "ws", 1), ws::client_config(&call.sim.config().socket));
    call.run(Endpoint::Discovery, Some(app_id), |state, now, _| match state.authenticate(app_id, secret) {
        Ok(_) => {
            let (ticket, ids) = state.issue_ticket(now, app_id);
            // `service_id` must not come first: an official client parses the whole URL as a query string.
            let url = format!(
                "{host}{}?device_id={}&service_id={}&ticket={ticket}",
                ws::PATH,
                ids.device_id,
                ids.service_id
            );
            success(&json!({"URL": url, "ClientConfig": config}))
        }
        Err(refusal) if refusal.code == 20069 => {
            Json(json!({"code": 403, "msg": "app is not allowed"})).into_response()
        }
        Err(_) => {
            Json(json!({"code": 1_000_040_344, "msg": "app_id or app_secret is invalid"})).into_response()
        }
    })
    .await
}
