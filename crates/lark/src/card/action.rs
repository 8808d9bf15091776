use larkauth_models::{SecretString, SessionId};
use serde_json::{Value, json};

/// Marks a button's value as one of ours and says how it is laid out.
const VERSION: u64 = 1;

/// What one of our buttons asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ButtonKind {
    /// The person goes on to the consent page, or consented on the card itself.
    Authorize,
    /// The person declines.
    Cancel,
    /// The person wants a new invitation in place of an expired or failed one.
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

    fn read(text: &str) -> Option<Self> {
        [Self::Authorize, Self::Cancel, Self::Retry].into_iter().find(|action| action.as_str() == text)
    }

    /// The value of such a button.
    pub(super) fn value(self, session_id: SessionId) -> Value {
        json!({ "larkauth": VERSION, "session_id": session_id, "action": self.as_str() })
    }
}

/// A click on one of our buttons, read from the callback's `action.value`.
#[derive(Clone, Debug)]
pub struct ButtonAction {
    /// The invitation that the card shows.
    pub session_id: SessionId,
    /// What was clicked.
    pub action: ButtonKind,
    /// The code of a consent given on the card itself; only some applications' cards have it.
    pub authorization_code: Option<SecretString>,
}

impl ButtonAction {
    /// Reads a button's value, an object or the same as text. `None` when it is not one of ours.
    ///
    /// Card templates are drawn by hand, so the mark `larkauth` may be left out, and so may `action` where there is an
    /// `authorization_code`.
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
            Some(action) => ButtonKind::read(action)?,
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
    fn our_own_buttons_are_read_back() {
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
    fn a_code_is_taken_and_stays_secret() {
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
    fn other_values_are_not_ours() {
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
