//! The body of an event or of a card callback.

use larkauth_models::Timestamp;
use serde_json::{Value, json};

use crate::state::{State, exposed};

/// Returns the body of an event or callback, the same over both transports.
pub(crate) fn envelope(
    state: &State,
    now: Timestamp,
    app_id: &str,
    event_type: &str,
    event: &Value,
) -> Value {
    let token = exposed(state.apps.get(app_id).and_then(|app| app.verification_token.as_ref()));
    let tenant = state.users.all().next().map(|user| user.tenant_key.clone()).unwrap_or_default();
    json!({
        "schema": "2.0",
        "header": {
            "event_id": state.fresh_id(""), "token": token, "create_time": now.timestamp_micros().to_string(),
            "event_type": event_type, "tenant_key": tenant, "app_id": app_id,
        },
        "event": event,
    })
}
