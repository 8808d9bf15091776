//! What a callback is: larkauth's own, another program's, or unreadable.

use bytes::Bytes;
use larkauth_lark::{
    card::ButtonAction,
    event::{CARD_ACTION, CardAction, Event, PushForm},
    event_type,
};
use larkauth_models::{AppId, EventId};

use crate::{event_id::event_id, seal};

/// Event type of a payload that is no event.
pub(crate) const UNREADABLE: &str = "unreadable";

/// An event or a callback that is not larkauth's.
#[derive(Clone)]
pub(crate) struct Foreign {
    pub(crate) event_id: EventId,
    pub(crate) event_type: String,
    /// As Lark pushed it.
    pub(crate) payload: Bytes,
}

impl Foreign {
    /// Whether Lark shows the answer to a person.
    pub(crate) fn wants_answer(&self) -> bool {
        event_type::wants_answer(&self.event_type)
    }

    /// The event type, as a label of bounded cardinality.
    pub(crate) fn label(&self) -> &'static str {
        event_type::label(&self.event_type)
    }
}

/// A click on a card of larkauth.
pub(crate) struct Click {
    pub(crate) event_id: EventId,
    pub(crate) form: PushForm,
    pub(crate) action: CardAction,
    pub(crate) button: ButtonAction,
}

/// The kinds of callbacks.
pub(crate) enum Classified {
    /// larkauth's own.
    Click(Box<Click>),
    /// Another program's.
    Foreign(Foreign),
    /// No event, or a click on a larkauth card that this build cannot read.
    Unrecognized { event_id: EventId, event_type: String, reason: String },
}

/// Classifies a payload that came as this application's.
pub(crate) fn classify(app_id: &AppId, payload: &[u8]) -> Classified {
    let event = match Event::parse(payload) {
        Ok(event) => event,
        Err(error) => {
            return Classified::Unrecognized {
                // Without a readable id, one is made of the bytes.
                event_id: event_id("sha256", &hex::encode(seal::sha256(payload))),
                event_type: UNREADABLE.to_owned(),
                reason: error.to_string(),
            };
        }
    };
    if event.app_id.as_deref().is_some_and(|named| named != app_id.as_str()) {
        let Event { event_id, event_type, .. } = event;
        let reason = "it names another application than the one it came for".to_owned();
        return Classified::Unrecognized { event_id, event_type, reason };
    }
    let reason = match CardAction::from_event(&event) {
        Ok(action) => match ButtonAction::read(&action) {
            Some(button) => {
                let click = Click { event_id: event.event_id, form: event.form, action, button };
                return Classified::Click(Box::new(click));
            }
            None => "a button of a larkauth card that this version does not know".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    let Event { event_id, event_type, body, .. } = event;
    if event_type == CARD_ACTION && ButtonAction::is_marked(&body["action"]) {
        return Classified::Unrecognized { event_id, event_type, reason };
    }
    Classified::Foreign(Foreign { event_id, event_type, payload: Bytes::copy_from_slice(payload) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kind(payload: &str) -> String {
        match classify(&AppId::new("cli_0123456789abcdef").unwrap(), payload.as_bytes()) {
            Classified::Click(click) => format!("click {}", click.event_id),
            Classified::Foreign(foreign) => format!("foreign {} {}", foreign.event_id, foreign.event_type),
            Classified::Unrecognized { event_type, reason, .. } => format!("{event_type}: {reason}"),
        }
    }

    fn click(value: &Value, operator: &Value) -> String {
        let header = json!({"event_id": "e", "event_type": CARD_ACTION});
        let event =
            json!({"operator": operator, "token": "c-1", "action": {"tag": "button", "value": value}});
        json!({"schema": "2.0", "header": header, "event": event}).to_string()
    }

    #[test]
    fn classify_click_depends_on_session_in_value() {
        const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";
        let person = json!({"open_id": "ou_1"});
        let ours = json!({"larkauth": 1, "session_id": ID, "action": "cancel"});
        assert_eq!(kind(&click(&ours, &person)), "click e");
        assert_eq!(kind(&click(&json!(ours.to_string()), &person)), "click e");
        for foreign in
            [json!({"action": "cancel"}), json!("approve"), json!(null), json!({"session_id": "s"})]
        {
            assert_eq!(kind(&click(&foreign, &person)), "foreign e card.action.trigger");
        }
        // A click of a form has no value, and a foreign one needs no person.
        assert_eq!(kind(&click(&json!({"k": 1}), &json!({}))), "foreign e card.action.trigger");
        assert!(kind(&click(&ours, &json!({}))).contains("operator"));
        assert!(kind(&click(&json!({"larkauth": 2}), &person)).contains("does not know"));
    }

    #[test]
    fn classify_event_of_other_application_is_unrecognized() {
        for named in
            [json!("cli_fedcba9876543210"), json!("cli_0123456789ABCDEF"), json!("another"), json!(7)]
        {
            for event_type in [CARD_ACTION, "im.message.receive_v1"] {
                let header = json!({"event_id": "e", "event_type": event_type, "app_id": named});
                let new = json!({"schema": "2.0", "header": header, "event": {}}).to_string();
                assert!(kind(&new).contains("another application"), "{new}");
            }
            let old =
                json!({"uuid": "u", "type": "event_callback", "event": {"type": "message", "app_id": named}});
            assert!(kind(&old.to_string()).contains("another application"), "{old}");
        }
        let own = json!({"event_id": "e", "event_type": "t", "app_id": "cli_0123456789abcdef"});
        assert_eq!(kind(&json!({"schema": "2.0", "header": own, "event": {}}).to_string()), "foreign e t");
    }

    #[test]
    fn classify_event_of_any_schema_is_foreign() {
        let new =
            r#"{"schema":"2.0","header":{"event_id":"e","event_type":"im.message.receive_v1"},"event":{}}"#;
        assert_eq!(kind(new), "foreign e im.message.receive_v1");
        let old = r#"{"uuid":"u","type":"event_callback","event":{"type":"message"}}"#;
        assert_eq!(kind(old), "foreign u message");
        assert!(kind("not JSON").starts_with(UNREADABLE));
    }
}
