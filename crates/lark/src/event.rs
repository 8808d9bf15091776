//! The events that Lark pushes, over the long connection and over HTTP.

use std::fmt;

use larkauth_models::{AppId, EventId, MessageId, OpenId, SecretString, Timestamp, UnionId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The event type of a click on a card.
pub const CARD_ACTION: &str = "card.action.trigger";

/// Smallest `create_time` that is read as microseconds. As milliseconds it is in the year 5138.
const MIN_MICROSECONDS: i64 = 100_000_000_000_000;

/// Why a push cannot be read. The text of an error names the field, never the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The push is not a JSON object.
    #[error("the push is not a JSON object")]
    NotJson,
    /// A required field is missing or malformed.
    #[error("the event has no usable `{0}`")]
    Missing(&'static str),
    /// The event is not a click on a card.
    #[error("the event is not a click on a card")]
    NotACardAction,
}

/// One event. Its `Debug` output leaves out the body, which may hold codes and personal data.
#[derive(Clone)]
pub struct Event {
    /// Id of the event, the same on every repetition of the push.
    pub event_id: EventId,
    /// Type of the event, such as [`CARD_ACTION`].
    pub event_type: String,
    /// The application that receives the event.
    pub app_id: Option<AppId>,
    /// The verification token, which proves the origin of an HTTP callback.
    pub token: Option<SecretString>,
    /// Time of the event.
    pub create_time: Option<Timestamp>,
    /// The company.
    pub tenant_key: Option<String>,
    /// The content, whose form depends on the event type.
    pub body: Value,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("event_id", &self.event_id)
            .field("event_type", &self.event_type)
            .field("app_id", &self.app_id)
            .field("create_time", &self.create_time)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Push {
    header: Header,
    #[serde(default)]
    event: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    event_id: String,
    event_type: String,
    app_id: Option<String>,
    token: Option<SecretString>,
    create_time: Value,
    tenant_key: Option<String>,
}

impl Event {
    /// Reads a push of schema 2.0, or the older flat body of a card callback, which becomes a [`CARD_ACTION`].
    ///
    /// # Errors
    /// When the push has neither form.
    pub fn parse(json: &[u8]) -> Result<Self, EventError> {
        let root: Map<String, Value> = serde_json::from_slice(json).map_err(|_| EventError::NotJson)?;
        if !root.contains_key("header") && root.contains_key("action") {
            return Self::from_flat_card(&root);
        }
        let Push { header, event } =
            serde_json::from_value(Value::Object(root)).map_err(|_| EventError::Missing("header"))?;
        if header.event_type.is_empty() || header.event_type.len() > 128 {
            return Err(EventError::Missing("header.event_type"));
        }
        Ok(Self {
            event_id: EventId::new(header.event_id).map_err(|_| EventError::Missing("header.event_id"))?,
            event_type: header.event_type,
            app_id: header.app_id.and_then(|id| AppId::new(id).ok()),
            token: header.token,
            create_time: timestamp(&header.create_time),
            tenant_key: header.tenant_key.filter(|key| !key.is_empty()),
            body: event,
        })
    }

    /// Reads a flat body. It has no event id, so the id is derived from its token, which is new with every click and the
    /// same on every repetition of the push.
    fn from_flat_card(root: &Map<String, Value>) -> Result<Self, EventError> {
        let field = |name: &str| root.get(name).cloned().unwrap_or_default();
        let text = |name: &str| root.get(name).and_then(Value::as_str).unwrap_or_default();
        let token =
            Some(text("token")).filter(|token| !token.is_empty()).ok_or(EventError::Missing("token"))?;
        let digest = Sha256::new().chain_update(token).chain_update(text("open_message_id")).finalize();
        let event_id = EventId::new(format!("card_{}", hex::encode(digest)));
        Ok(Self {
            event_id: event_id.map_err(|_| EventError::Missing("token"))?,
            event_type: CARD_ACTION.to_owned(),
            app_id: root.get("app_id").and_then(Value::as_str).and_then(|id| AppId::new(id).ok()),
            token: None,
            create_time: None,
            tenant_key: Some(text("tenant_key").to_owned()).filter(|key| !key.is_empty()),
            body: json!({
                "operator": {
                    "open_id": field("open_id"),
                    "user_id": field("user_id"),
                    "union_id": field("union_id"),
                    "tenant_key": field("tenant_key"),
                },
                "token": token,
                "action": field("action"),
                "host": field("host"),
                "context": {
                    "open_message_id": field("open_message_id"),
                    "open_chat_id": field("open_chat_id"),
                },
            }),
        })
    }
}

/// Reads a time from a number or its text, in milliseconds or microseconds since 1970. The size decides the unit.
fn timestamp(value: &Value) -> Option<Timestamp> {
    let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
    if number <= 0 {
        None
    } else if number < MIN_MICROSECONDS {
        Timestamp::from_timestamp_millis(number)
    } else {
        Timestamp::from_timestamp_micros(number)
    }
}

/// The person who clicked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Id of the person within this application.
    pub open_id: OpenId,
    /// Id of the person within the company.
    pub user_id: Option<UserId>,
    /// Id of the person within one developer's applications.
    pub union_id: Option<UnionId>,
    /// The person's company.
    pub tenant_key: Option<String>,
}

/// A click on a card. Its `Debug` output leaves out the value, which may hold an authorization code.
#[derive(Clone)]
pub struct CardAction {
    /// Id of the event, the same on every repetition of the push.
    pub event_id: EventId,
    /// The person who clicked.
    pub operator: Operator,
    /// Token for delayed updates of the card, valid for 30 minutes and two uses.
    pub token: SecretString,
    /// The button's value, empty if the value is not an object.
    pub value: Map<String, Value>,
    /// The kind of element, usually `button`.
    pub tag: Option<String>,
    /// The element's name.
    pub name: Option<String>,
    /// The card's message.
    pub message_id: Option<MessageId>,
    /// The chat that the card is in.
    pub chat_id: Option<String>,
    /// The place where the card was shown, such as `im_message`.
    pub host: Option<String>,
}

impl fmt::Debug for CardAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardAction")
            .field("event_id", &self.event_id)
            .field("operator", &self.operator)
            .field("tag", &self.tag)
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

impl CardAction {
    /// Reads a click from an event.
    ///
    /// # Errors
    /// When the event has another type, or lacks the person or the token.
    pub fn from_event(event: &Event) -> Result<Self, EventError> {
        if event.event_type != CARD_ACTION {
            return Err(EventError::NotACardAction);
        }
        let text = |pointer: &str| {
            event.body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
        };
        let owned = |pointer: &str| text(pointer).map(str::to_owned);
        let open_id = text("/operator/open_id").and_then(|id| OpenId::new(id).ok());
        Ok(Self {
            event_id: event.event_id.clone(),
            operator: Operator {
                open_id: open_id.ok_or(EventError::Missing("event.operator.open_id"))?,
                user_id: text("/operator/user_id").and_then(|id| UserId::new(id).ok()),
                union_id: text("/operator/union_id").and_then(|id| UnionId::new(id).ok()),
                tenant_key: owned("/operator/tenant_key").or_else(|| event.tenant_key.clone()),
            },
            token: text("/token").map(SecretString::from).ok_or(EventError::Missing("event.token"))?,
            value: object(event.body.pointer("/action/value")),
            tag: owned("/action/tag"),
            name: owned("/action/name"),
            message_id: text("/context/open_message_id").and_then(|id| MessageId::new(id).ok()),
            chat_id: owned("/context/open_chat_id"),
            host: owned("/host"),
        })
    }

    /// Returns the authorization code that a card of the historical token endpoint sends back.
    #[must_use]
    pub fn authorization_code(&self) -> Option<SecretString> {
        let code = self.value.get("authorization_code")?.as_str()?;
        (!code.is_empty()).then(|| SecretString::from(code))
    }
}

/// Reads a button's value, which is an object or the JSON text of an object.
fn object(value: Option<&Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(object)) => object.clone(),
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use larkauth_models::ExposeSecret;
    use proptest::prelude::*;

    use super::*;

    fn click(value: &Value) -> Vec<u8> {
        json!({
            "schema": "2.0",
            "header": {
                "event_id": "ev_1", "token": "verification", "create_time": "1603977298000000",
                "event_type": CARD_ACTION, "tenant_key": "tenant", "app_id": "cli_0123456789abcdef",
            },
            "event": {
                "operator": { "tenant_key": "tenant", "user_id": "", "union_id": "on_1", "open_id": "ou_1" },
                "token": "c-update",
                "action": { "value": value, "tag": "button", "name": "go" },
                "host": "im_message",
                "context": { "open_message_id": "om_1", "open_chat_id": "oc_1" },
            },
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn card_action_from_event_returns_click() {
        let event = Event::parse(&click(&json!({ "authorization_code": "c0de" }))).unwrap();
        assert_eq!(event.app_id.as_ref().unwrap().as_str(), "cli_0123456789abcdef");
        let action = CardAction::from_event(&event).unwrap();
        assert_eq!(action.operator.open_id.as_str(), "ou_1");
        assert_eq!(action.operator.user_id, None);
        assert_eq!(action.message_id.as_ref().unwrap().as_str(), "om_1");
        assert_eq!(action.chat_id.as_deref(), Some("oc_1"));
        assert_eq!(action.host.as_deref(), Some("im_message"));
        assert_eq!(action.authorization_code().unwrap().expose_secret(), "c0de");
        let shown = format!("{event:?}{action:?}");
        assert!(
            !shown.contains("c0de") && !shown.contains("c-update") && !shown.contains("verification"),
            "{shown}"
        );
    }

    #[test]
    fn card_action_value_text_or_invalid_returns_object() {
        let value =
            |value: &Value| CardAction::from_event(&Event::parse(&click(value)).unwrap()).unwrap().value;
        assert_eq!(value(&json!("{\"session_id\":\"s\"}"))["session_id"], "s");
        for invalid in [json!("not json"), json!(null), json!([1]), json!("[1]")] {
            assert!(value(&invalid).is_empty(), "{invalid}");
        }
    }

    #[test]
    fn timestamp_milliseconds_or_microseconds_returns_same_time() {
        let expected = Timestamp::from_timestamp_millis(1_603_977_298_000);
        for value in [json!("1603977298000"), json!("1603977298000000"), json!(1_603_977_298_000_i64)] {
            assert_eq!(timestamp(&value), expected, "{value}");
        }
        assert_eq!([json!("soon"), json!(null), json!("-1")].map(|value| timestamp(&value)), [None; 3]);
    }

    #[test]
    fn parse_flat_card_returns_click_with_stable_id() {
        let flat = |token: &str| {
            json!({
                "open_id": "ou_1", "user_id": "u1", "open_message_id": "om_1", "open_chat_id": "oc_1",
                "tenant_key": "tenant", "token": token, "action": { "value": { "k": "v" }, "tag": "button" },
            })
            .to_string()
        };
        let read = |token| CardAction::from_event(&Event::parse(flat(token).as_bytes()).unwrap()).unwrap();
        let action = read("c-1");
        assert_eq!(action.value["k"], "v");
        assert_eq!(action.operator.user_id.as_ref().unwrap().as_str(), "u1");
        assert_eq!(action.message_id.as_ref().unwrap().as_str(), "om_1");
        assert_eq!(action.token.expose_secret(), "c-1");
        assert_eq!(action.event_id, read("c-1").event_id);
        assert_ne!(action.event_id, read("c-2").event_id);
        assert!(!action.event_id.as_str().contains("c-1"));
    }

    #[test]
    fn parse_malformed_push_names_field() {
        let error = |json: &str| Event::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error("<html>"), EventError::NotJson);
        assert_eq!(error("[]"), EventError::NotJson);
        assert_eq!(error("{}"), EventError::Missing("header"));
        assert_eq!(error(r#"{"header":{"event_id":"e"}}"#), EventError::Missing("header.event_type"));
        assert_eq!(error(r#"{"header":{"event_type":"t"}}"#), EventError::Missing("header.event_id"));
        let other = Event::parse(br#"{"header":{"event_type":"t","event_id":"e"}}"#).unwrap();
        assert_eq!(CardAction::from_event(&other).unwrap_err(), EventError::NotACardAction);
    }

    proptest! {
        #[test]
        fn parse_arbitrary_input_does_not_panic(bytes: Vec<u8>, token: String, value: String) {
            let _ = Event::parse(&bytes);
            let flat = json!({ "action": { "value": value }, "token": token, "open_id": token });
            if let Ok(event) = Event::parse(flat.to_string().as_bytes()) {
                let _ = CardAction::from_event(&event);
            }
            if let Ok(event) = Event::parse(&click(&json!(value))) {
                prop_assert!(CardAction::from_event(&event).is_ok());
            }
        }
    }
}
