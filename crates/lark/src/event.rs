//! The events that Lark pushes, over the long connection and over HTTP.

use std::fmt;

use larkauth_models::{EventId, MessageId, OpenId, SecretString, Timestamp, UnionId, UserId};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The event type of a click on a card.
pub const CARD_ACTION: &str = "card.action.trigger";

/// The event type of a click in the historical form.
const OLD_CARD_ACTION: &str = "card.action.trigger_v1";
/// Longest event type, in bytes.
const MAX_EVENT_TYPE: usize = 128;

/// Smallest `create_time` that is read as milliseconds. As seconds it is in the year 5138.
const MIN_MILLISECONDS: i64 = 100_000_000_000;
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
    pub app_id: Option<String>,
    /// The verification token, which proves the origin of an HTTP callback.
    pub token: Option<SecretString>,
    /// Time of the event.
    pub create_time: Option<Timestamp>,
    /// The company.
    pub tenant_key: Option<String>,
    /// The content, whose form depends on the event type.
    pub body: Value,
    /// The form of the push.
    pub form: PushForm,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("event_id", &self.event_id)
            .field("event_type", &self.event_type)
            .field("app_id", &self.app_id)
            .field("create_time", &self.create_time)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// The form of a push. All forms are understood; the older ones are a choice in the developer console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushForm {
    /// Schema 2.0.
    Current,
    /// Version 1 of events: `uuid`, `type`, `event`.
    Version1,
    /// The historical card callback, without a header. Its answer cannot hold a card of schema 2.0.
    OldCard,
}

impl PushForm {
    /// Returns the change in the developer console that leads to the current form, if this is an older one.
    #[must_use]
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Current => None,
            Self::Version1 => Some(
                "an event of version 1.0: in the developer console, under Events & Callbacks, subscribe to version 2.0 of it",
            ),
            Self::OldCard => Some(
                "a historical card callback (card.action.trigger_v1): in the developer console, under Events & Callbacks, \
                 Callback Configuration, add the callback card.action.trigger and remove the old one",
            ),
        }
    }
}

impl Event {
    /// Reads a push of any [`PushForm`]. Only the type of the event is required. An event without an id gets one that is
    /// the same on every repetition of the push.
    ///
    /// # Errors
    /// When the push has none of the forms.
    pub fn parse(json: &[u8]) -> Result<Self, EventError> {
        let root: Map<String, Value> =
            serde_json::from_slice(json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json))
                .map_err(|_| EventError::NotJson)?;
        let (root, field) = (Value::Object(root), "header.event_type");
        if root["header"].is_object() {
            let header = &root["header"];
            let ids = [text(header, "event_id"), text(&root, "uuid")];
            Self::read(
                json,
                PushForm::Current,
                header,
                &root["event"],
                ids,
                text(header, "event_type"),
                field,
            )
        } else if root["event"].is_object() {
            let body = &root["event"];
            let ids = [text(&root, "uuid"), text(body, "uuid")];
            Self::read(json, PushForm::Version1, &root, body, ids, text(body, "type"), "event.type")
        } else if root["action"].is_object() {
            let event_type = Some(CARD_ACTION.to_owned());
            Self::read(json, PushForm::OldCard, &root, &root, [None, None], event_type, field)
        } else {
            Err(EventError::Missing("header"))
        }
    }

    fn read(
        json: &[u8],
        form: PushForm,
        header: &Value,
        body: &Value,
        ids: [Option<String>; 2],
        event_type: Option<String>,
        type_field: &'static str,
    ) -> Result<Self, EventError> {
        let event_type = match event_type {
            Some(old) if old == OLD_CARD_ACTION => CARD_ACTION.to_owned(),
            None if body["action"].is_object() => CARD_ACTION.to_owned(),
            other => {
                other.filter(|name| name.len() <= MAX_EVENT_TYPE).ok_or(EventError::Missing(type_field))?
            }
        };
        let either = |name| text(header, name).or_else(|| text(body, name));
        let given = ids.into_iter().flatten().find_map(|id| EventId::new(id).ok());
        Ok(Self {
            event_id: given
                .or_else(|| derived_id(json, body))
                .ok_or(EventError::Missing("header.event_id"))?,
            event_type,
            app_id: either("app_id"),
            // The token of a historical card callback is for updates of the card.
            token: text(header, "token").filter(|_| form != PushForm::OldCard).map(SecretString::from),
            create_time: ["create_time", "ts"].into_iter().find_map(|name| timestamp(&header[name])),
            tenant_key: either("tenant_key"),
            body: body.clone(),
            form,
        })
    }
}

/// Derives the id of a push without one: from the token and the message of a click, which are new with every click, else
/// from the whole push.
fn derived_id(json: &[u8], body: &Value) -> Option<EventId> {
    let digest = match text(body, "token") {
        Some(token) => {
            Sha256::new().chain_update(token).chain_update(message_id(body).unwrap_or_default()).finalize()
        }
        None => Sha256::digest(json),
    };
    EventId::new(format!("card_{}", hex::encode(digest))).ok()
}

/// Returns a text, or the text of a number. An empty text counts as missing.
fn text(value: &Value, name: &str) -> Option<String> {
    let text = match &value[name] {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

fn message_id(body: &Value) -> Option<String> {
    text(&body["context"], "open_message_id")
        .or_else(|| text(&body["context"], "message_id"))
        .or_else(|| text(body, "open_message_id"))
        .or_else(|| text(body, "message_id"))
}

/// Reads a time from a number or its text, in seconds, milliseconds or microseconds since 1970. The size decides the unit.
fn timestamp(value: &Value) -> Option<Timestamp> {
    let text = value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_owned());
    let (whole, _fraction) = text.split_once('.').unwrap_or((&text, ""));
    let number: i64 = whole.parse().ok()?;
    match number {
        ..=0 => None,
        1..MIN_MILLISECONDS => Timestamp::from_timestamp(number, 0),
        MIN_MILLISECONDS..MIN_MICROSECONDS => Timestamp::from_timestamp_millis(number),
        _ => Timestamp::from_timestamp_micros(number),
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
    pub token: Option<SecretString>,
    /// The button's value, empty if the value is not an object.
    pub value: Map<String, Value>,
    /// The fields of the form that the button submits.
    pub form: Map<String, Value>,
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
    /// When the event has another type, or names no person.
    pub fn from_event(event: &Event) -> Result<Self, EventError> {
        if event.event_type != CARD_ACTION {
            return Err(EventError::NotACardAction);
        }
        let (body, action) = (&event.body, &event.body["action"]);
        let operator = &body["operator"];
        // The forms of a push differ in where the ids are.
        let places =
            [operator, &operator["operator_id"], &body["operator_id"], &body["user_id"], &body["user"], body];
        let id = |name| places.into_iter().find_map(|place| text(place, name));
        let open_id = places.into_iter().find_map(|place| OpenId::new(text(place, "open_id")?).ok());
        Ok(Self {
            event_id: event.event_id.clone(),
            operator: Operator {
                open_id: open_id.ok_or(EventError::Missing("event.operator.open_id"))?,
                user_id: id("user_id").and_then(|id| UserId::new(id).ok()),
                union_id: id("union_id").and_then(|id| UnionId::new(id).ok()),
                tenant_key: id("tenant_key").or_else(|| event.tenant_key.clone()),
            },
            token: text(body, "token").map(SecretString::from),
            value: object(&action["value"]),
            form: object(&action["form_value"]),
            tag: text(action, "tag"),
            name: text(action, "name"),
            message_id: message_id(body).and_then(|id| MessageId::new(id).ok()),
            chat_id: text(&body["context"], "open_chat_id").or_else(|| text(body, "open_chat_id")),
            host: text(body, "host"),
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
fn object(value: &Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object.clone(),
        // Some templates quote the text once more.
        Value::String(text) => serde_json::from_str(text).map(|value| object(&value)).unwrap_or_default(),
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use larkauth_models::ExposeSecret;
    use proptest::prelude::*;
    use serde_json::json;

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
        assert_eq!(event.app_id.as_deref().unwrap(), "cli_0123456789abcdef");
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
        for value in [
            json!("1603977298000"),
            json!("1603977298000000"),
            json!(1_603_977_298_000_i64),
            json!("1603977298.7171419"),
            json!(1_603_977_298),
        ] {
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
        assert_eq!(action.token.as_ref().unwrap().expose_secret(), "c-1");
        assert_eq!(action.event_id, read("c-1").event_id);
        assert_ne!(action.event_id, read("c-2").event_id);
        assert!(!action.event_id.as_str().contains("c-1"));
    }

    #[test]
    fn card_action_ids_in_any_place_are_found() {
        let nested = json!({ "open_id": "ou_1", "user_id": "u1", "union_id": "on_1" });
        for (place, mut event) in [
            json!({ "operator": nested }),
            json!({ "operator": { "operator_id": nested } }),
            json!({ "operator": { "tenant_key": 7 }, "operator_id": nested }),
            json!({ "user_id": nested }),
            json!({ "user": nested }),
            nested,
        ]
        .into_iter()
        .enumerate()
        {
            event["action"] = json!({ "tag": "button", "value": { "k": "v" } });
            event["open_message_id"] = json!("om_1");
            let current = json!({ "header": { "event_type": CARD_ACTION }, "event": event });
            let version1 = json!({ "uuid": "e-1", "type": "event_callback", "event": event });
            let old = json!({ "header": { "event_type": "card.action.trigger_v1", "event_id": 7 }, "event": event });
            for push in [current, version1, old, event] {
                let event = Event::parse(push.to_string().as_bytes()).unwrap();
                let action =
                    CardAction::from_event(&event).unwrap_or_else(|e| panic!("{place}: {e}: {push}"));
                assert_eq!(action.operator.open_id.as_str(), "ou_1");
                assert_eq!(action.operator.user_id.unwrap().as_str(), "u1");
                assert_eq!(action.operator.union_id.unwrap().as_str(), "on_1");
                assert_eq!(action.message_id.unwrap().as_str(), "om_1");
                assert!(action.token.is_none() && action.value["k"] == "v");
            }
        }
    }

    #[test]
    fn card_action_without_any_unused_field_is_read() {
        let event = json!({ "operator": { "open_id": "ou_1" }, "action": {} });
        let push = json!({ "header": {}, "event": event }).to_string();
        let parsed = Event::parse(format!("\u{feff}{push}").as_bytes()).unwrap();
        assert!(CardAction::from_event(&parsed).is_ok());
        assert_eq!(parsed.event_id, Event::parse(format!("\u{feff}{push}").as_bytes()).unwrap().event_id);
        for junk in [json!(null), json!([]), json!(7), json!({ "x": {} }), json!("text")] {
            let mut push = json!({ "header": { "event_id": "e-1" }, "event": event });
            for field in ["app_id", "token", "create_time", "tenant_key"] {
                push["header"][field] = junk.clone();
            }
            for field in ["token", "context", "host"] {
                push["event"][field] = junk.clone();
            }
            for field in ["value", "tag", "name", "form_value"] {
                push["event"]["action"][field] = junk.clone();
            }
            let event = Event::parse(push.to_string().as_bytes()).unwrap();
            assert!(CardAction::from_event(&event).is_ok(), "{junk}");
        }
    }

    #[test]
    fn parse_version_1_event_returns_id_type_and_advice() {
        let push = json!({
            "uuid": "e-1", "token": "verification", "ts": "1603977298.7171419", "type": "event_callback",
            "event": { "type": "p2p_chat_create", "app_id": "cli_0123456789abcdef", "tenant_key": "t" },
        });
        let event = Event::parse(push.to_string().as_bytes()).unwrap();
        assert_eq!((event.event_id.as_str(), event.event_type.as_str()), ("e-1", "p2p_chat_create"));
        assert_eq!(event.app_id.unwrap(), "cli_0123456789abcdef");
        assert_eq!(
            (event.tenant_key.as_deref(), event.token.unwrap().expose_secret()),
            (Some("t"), "verification")
        );
        assert_eq!(event.create_time, Timestamp::from_timestamp(1_603_977_298, 0));
        assert!(event.form.advice().unwrap().contains("version 2.0"));
        assert_eq!(PushForm::Current.advice(), None);
        assert!(PushForm::OldCard.advice().unwrap().contains("card.action.trigger"));
    }

    #[test]
    fn parse_malformed_push_names_field() {
        let error = |json: &str| Event::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error("<html>"), EventError::NotJson);
        assert_eq!(error("[]"), EventError::NotJson);
        assert_eq!(error("{}"), EventError::Missing("header"));
        assert_eq!(error(r#"{"header":{"event_id":"e"}}"#), EventError::Missing("header.event_type"));
        assert_eq!(error(r#"{"event":{"x":1}}"#), EventError::Missing("event.type"));
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
