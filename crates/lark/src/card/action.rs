use std::borrow::Cow;

use larkauth_models::{SecretString, SessionId};
use serde_json::{Value, json};

use crate::event::CardAction;

/// Version of the layout of a button's value.
const VERSION: u64 = 1;
/// The field of the version. It marks a button of this crate, as does the start of a name.
const MARK: &str = "larkauth";

/// The action of a button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ButtonKind {
    /// The person opens the consent page, or has consented on the card itself.
    Authorize,
    /// The person declines.
    Cancel,
    /// The person asks for a new invitation after an expired or failed one.
    Retry,
}

impl ButtonKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Authorize, Self::Cancel, Self::Retry].into_iter().find(|action| action.as_str() == text)
    }

    /// Reads the name of a button: an action, alone or followed by the session.
    fn from_name(name: &str) -> Option<(Self, Option<SessionId>)> {
        const SEPARATORS: [char; 4] = [':', '_', '-', '.'];
        let name = name.strip_prefix(MARK).map_or(name, |rest| rest.trim_start_matches(SEPARATORS));
        match name.split_once(SEPARATORS) {
            None => Some((Self::parse(name)?, None)),
            Some((action, session)) => Some((Self::parse(action)?, Some(session.parse().ok()?))),
        }
    }

    /// Returns the value of a button with this action.
    pub(super) fn value(self, session_id: SessionId) -> Value {
        json!({ MARK: VERSION, "session_id": session_id, "action": self.as_str() })
    }
}

/// A click on a button of a card of this crate, read from the callback's `action.value`.
#[derive(Clone, Debug)]
pub struct ButtonAction {
    /// The session that the card belongs to.
    pub session_id: SessionId,
    /// The button's action.
    pub action: ButtonKind,
    /// The code of a consent given on the card itself, which only the cards of some applications have.
    pub authorization_code: Option<SecretString>,
}

impl ButtonAction {
    /// Reads a click. Returns `None` for a button of another origin.
    ///
    /// The buttons of card templates are written by hand. They may leave out the version field `larkauth`, and `action`
    /// beside an `authorization_code`. The button that submits a form may say its action by its name (`authorize`,
    /// `larkauth_cancel`), also with the session (`authorize:SESSION_ID`), and the form may hold the other fields.
    #[must_use]
    pub fn read(click: &CardAction) -> Option<Self> {
        let (value, form) = (&click.value, &click.form);
        if let Some(version) = value.get(MARK)
            && version.as_u64() != Some(VERSION)
            && version.as_str() != Some("1")
        {
            return None;
        }
        let text = |key| {
            let texts = [value, form].into_iter().filter_map(|map| map.get(key)?.as_str());
            texts.map(str::trim).find(|text| !text.is_empty())
        };
        let named = click.name.as_deref().and_then(ButtonKind::from_name);
        let authorization_code = text("authorization_code").map(SecretString::from);
        Some(Self {
            session_id: match text("session_id") {
                Some(id) => id.parse().ok()?,
                None => named?.1?,
            },
            action: match (text("action"), named) {
                (Some(action), _) => ButtonKind::parse(action)?,
                (None, Some((action, _))) => action,
                (None, None) if authorization_code.is_some() => ButtonKind::Authorize,
                (None, None) => return None,
            },
            authorization_code,
        })
    }

    /// Returns whether the `action` of a click has the mark of this crate, of any version.
    #[must_use]
    pub fn is_marked(action: &Value) -> bool {
        let is_named = action["name"].as_str().is_some_and(|name| name.starts_with(MARK));
        is_named || has_mark(&action["value"])
    }
}

/// A value may be the JSON text of an object, in some templates quoted twice.
fn has_mark(value: &Value) -> bool {
    let mut value = Cow::Borrowed(value);
    for _ in 0..2 {
        let Some(parsed) = value.as_str().and_then(|text| serde_json::from_str(text).ok()) else { break };
        value = Cow::Owned(parsed);
    }
    value.get(MARK).is_some()
}

#[cfg(test)]
mod tests {
    use larkauth_models::ExposeSecret;

    use super::*;
    use crate::card::tests::click;

    const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    fn read(action: &Value) -> Option<ButtonAction> {
        ButtonAction::read(&click(action))
    }

    fn read_value(value: &Value) -> Option<ButtonAction> {
        read(&json!({ "tag": "button", "value": value }))
    }

    #[test]
    fn read_form_button_by_name_or_value_returns_action() {
        let by_session = |name: &str| json!({ "name": name, "value": { "session_id": ID } });
        for (action, kind) in [
            (by_session("authorize"), ButtonKind::Authorize),
            (by_session("larkauth_cancel"), ButtonKind::Cancel),
            (json!({ "name": "other", "value": { "session_id": ID, "action": "retry" } }), ButtonKind::Retry),
            (
                json!({ "name": "authorize", "value": { "session_id": ID, "action": "cancel" } }),
                ButtonKind::Cancel,
            ),
            (json!({ "name": format!("authorize:{ID}") }), ButtonKind::Authorize),
            (json!({ "name": format!("larkauth_cancel_{ID}"), "value": null }), ButtonKind::Cancel),
            (json!({ "name": "authorize", "form_value": { "session_id": ID } }), ButtonKind::Authorize),
            (
                json!({ "value": { "session_id": ID }, "form_value": { "action": "cancel" } }),
                ButtonKind::Cancel,
            ),
        ] {
            let button = read(&action).unwrap_or_else(|| panic!("{action}"));
            assert_eq!((button.session_id, button.action), (ID.parse().unwrap(), kind), "{action}");
        }
        let with_code =
            json!({ "name": "authorize", "form_value": { "session_id": ID, "authorization_code": "C" } });
        assert_eq!(read(&with_code).unwrap().authorization_code.unwrap().expose_secret(), "C");
        for foreign in [
            json!({ "name": "authorize" }),
            json!({ "name": "submit", "value": { "session_id": ID } }),
            json!({ "name": "authorize_button", "value": { "session_id": ID } }),
            json!({ "name": "authorize", "value": { "session_id": ID, "action": "delete" } }),
            json!({ "name": format!("authorize:{ID}x") }),
        ] {
            assert!(read(&foreign).is_none(), "{foreign}");
        }
    }

    #[test]
    fn parse_own_value_returns_session_and_action() {
        let session_id: SessionId = ID.parse().unwrap();
        for action in [ButtonKind::Authorize, ButtonKind::Cancel, ButtonKind::Retry] {
            let value = action.value(session_id);
            for value in [value.clone(), Value::String(value.to_string())] {
                let read = read_value(&value).unwrap();
                assert_eq!((read.session_id, read.action), (session_id, action));
                assert!(read.authorization_code.is_none());
            }
        }
    }

    #[test]
    fn parse_value_with_code_returns_secret_code() {
        for value in [
            json!({"session_id": ID, "authorization_code": "CODE"}),
            json!({"larkauth": "1", "session_id": ID, "action": "authorize", "authorization_code": "CODE"}),
        ] {
            let read = read_value(&value).unwrap();
            assert_eq!(read.action, ButtonKind::Authorize);
            assert_eq!(read.authorization_code.as_ref().unwrap().expose_secret(), "CODE");
            assert!(!format!("{read:?}").contains("CODE"));
        }
    }

    #[test]
    fn parse_foreign_value_returns_none() {
        for value in [
            json!(null),
            json!(7),
            json!("not json"),
            json!("\"text\""),
            json!({}),
            json!({"action": "authorize"}),
            json!({"session_id": "x", "action": "authorize"}),
            json!({"session_id": ID}),
            json!({"session_id": ID, "action": "delete"}),
            json!({"larkauth": 2, "session_id": ID, "action": "authorize"}),
        ] {
            assert!(read_value(&value).is_none(), "{value}");
            let action = json!({ "value": value });
            assert_eq!(ButtonAction::is_marked(&action), value["larkauth"] == 2, "{value}");
        }
    }
}
