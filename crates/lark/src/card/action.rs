use larkauth_models::{SecretString, SessionId};
use serde_json::{Value, json};

/// Version of the layout of a button's value. The field that holds it marks a button of this crate.
const VERSION: u64 = 1;

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

    /// Returns the value of a button with this action.
    pub(super) fn value(self, session_id: SessionId) -> Value {
        json!({ "larkauth": VERSION, "session_id": session_id, "action": self.as_str() })
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
    /// Reads a button's value, which is an object or the JSON text of an object. Returns `None` for a button of another
    /// origin.
    ///
    /// The buttons of card templates are written by hand. They may leave out the version field `larkauth`, and `action`
    /// beside an `authorization_code`.
    #[must_use]
    pub fn parse(value: &Value) -> Option<Self> {
        let parsed: Value;
        let value = match value.as_str() {
            Some(text) => {
                parsed = serde_json::from_str(text).ok()?;
                &parsed
            }
            None => value,
        };
        if let Some(version) = value.get("larkauth")
            && version.as_u64() != Some(VERSION)
            && version.as_str() != Some("1")
        {
            return None;
        }
        let text = |key| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let session_id = text("session_id")?.parse().ok()?;
        let authorization_code = text("authorization_code").map(SecretString::from);
        let action = match text("action") {
            Some(action) => ButtonKind::parse(action)?,
            None if authorization_code.is_some() => ButtonKind::Authorize,
            None => return None,
        };
        Some(Self { session_id, action, authorization_code })
    }
}

#[cfg(test)]
mod tests {
    use larkauth_models::ExposeSecret;

    use super::*;

    const ID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    #[test]
    fn parse_own_value_returns_session_and_action() {
        let session_id: SessionId = ID.parse().unwrap();
        for action in [ButtonKind::Authorize, ButtonKind::Cancel, ButtonKind::Retry] {
            let value = action.value(session_id);
            for value in [value.clone(), Value::String(value.to_string())] {
                let read = ButtonAction::parse(&value).unwrap();
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
            let read = ButtonAction::parse(&value).unwrap();
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
            assert!(ButtonAction::parse(&value).is_none(), "{value}");
        }
    }
}
