//! Sending and updating cards.

use axum::{extract::Path, response::Response};
use larkauth_models::Timestamp;
use serde_json::json;

use super::{
    answer::{bearer_app, flatten, success, tenant_app},
    call::Call,
};
use crate::{
    behaviour,
    faults::Endpoint,
    rules::messages::SendRequest,
    state::{State, codes::Refusal},
};

/// Sends a card.
pub(crate) async fn send(call: Call) -> Response {
    let app_id = bearer_app(&call.sim, call.bearer());
    let fields = call.fields();
    call.run(Endpoint::MessageSend, app_id.as_deref(), |state, now, _| {
        flatten(caller(state, now, call.bearer(), "messages").and_then(|app_id| {
            let invalid = Refusal::new(400, 99_992_402, "field validation failed");
            let text = |name| fields.get(name).ok_or(invalid.clone());
            let request = SendRequest {
                app_id: &app_id,
                id_type: call.param("receive_id_type").ok_or(invalid.clone())?,
                receive_id: text("receive_id")?,
                msg_type: text("msg_type")?,
                content: text("content")?,
                uuid: fields.get("uuid"),
            };
            let sent = state.send_message(now, &request)?;
            let message = &sent.message;
            let millis = message.sent_at.timestamp_millis().to_string();
            let answer = success(&json!({
                "message_id": message.message_id, "chat_id": message.chat_id, "msg_type": "interactive",
                "create_time": millis, "update_time": millis, "deleted": false, "updated": false,
                "sender": {"id": app_id, "id_type": "app_id", "sender_type": "app"},
                "body": {"content": fields.get("content")},
            }));
            if sent.new {
                behaviour::react(&call.sim, sent.message);
            }
            Ok(answer)
        }))
    })
    .await
}

/// Updates a message.
pub(crate) async fn update(Path(message_id): Path<String>, call: Call) -> Response {
    let app_id = bearer_app(&call.sim, call.bearer());
    let fields = call.fields();
    call.run(Endpoint::MessageUpdate, app_id.as_deref(), |state, now, _| {
        flatten(caller(state, now, call.bearer(), "message updates").and_then(|app_id| {
            let content =
                fields.get("content").ok_or(Refusal::new(400, 99_992_402, "field validation failed"))?;
            state.update_message(now, &app_id, &message_id, content)?;
            Ok(success(&json!({})))
        }))
    })
    .await
}

/// Updates a card with the token of its callback.
pub(crate) async fn delayed_update(call: Call) -> Response {
    let app_id = bearer_app(&call.sim, call.bearer());
    let body = call.json();
    call.run(Endpoint::CardUpdate, app_id.as_deref(), |state, now, _| {
        flatten(caller(state, now, call.bearer(), "delayed updates").and_then(|app_id| {
            let token = body["token"].as_str().ok_or(Refusal::new(400, 10_002, "token is missing"))?;
            state.delayed_update(now, &app_id, token, &body["card"])?;
            Ok(success(&json!({})))
        }))
    })
    .await
}

fn caller(state: &mut State, now: Timestamp, bearer: &str, group: &str) -> Result<String, Refusal> {
    let app_id = tenant_app(state, now, bearer)?;
    state.limit(group, &app_id, now)?;
    Ok(app_id)
}
