use serde_json::{Map, Value, json};

use super::text::{Text, ToastText};

/// The colour and icon of a toast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToastKind {
    /// Neutral.
    Info,
    /// An action succeeded.
    Success,
    /// An action needs attention.
    Warning,
    /// An action failed.
    Error,
}

impl ToastKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Returns a short message that is shown to the person who clicked, in that person's language.
#[must_use]
pub fn toast(kind: ToastKind, text: ToastText) -> Value {
    let Text { zh_cn, en_us } = text.text();
    json!({ "type": kind.as_str(), "content": en_us, "i18n": { "zh_cn": zh_cn, "en_us": en_us } })
}

/// Wraps a card of [`render`](super::render) in the form that a callback's answer requires. Returns a wrapped card
/// unchanged.
#[must_use]
pub fn callback_card(card: &Value) -> Value {
    match card.get("type").and_then(Value::as_str) {
        Some("template" | "raw") => card.clone(),
        _ => json!({ "type": "raw", "data": card }),
    }
}

/// Returns the answer to a card callback. Without a toast and a card it is `{}`, which changes nothing on the person's
/// screen.
#[must_use]
pub fn answer(toast: Option<Value>, card: Option<&Value>) -> Value {
    let mut answer = Map::new();
    if let Some(toast) = toast {
        answer.insert("toast".into(), toast);
    }
    if let Some(card) = card {
        answer.insert("card".into(), callback_card(card));
    }
    Value::Object(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_returns_documented_form() {
        assert_eq!(answer(None, None), json!({}));
        let card = json!({"schema": "2.0"});
        assert_eq!(
            answer(Some(toast(ToastKind::Success, ToastText::Authorized)), Some(&card)),
            json!({
                "toast": {
                    "type": "success",
                    "content": "Authorized, thank you",
                    "i18n": {"zh_cn": "授权成功", "en_us": "Authorized, thank you"}
                },
                "card": {"type": "raw", "data": {"schema": "2.0"}}
            })
        );
        let template = json!({"type": "template", "data": {"template_id": "t"}});
        assert_eq!(callback_card(&template), template);
        assert_eq!(callback_card(&callback_card(&card)), callback_card(&card));
    }

    #[test]
    fn toast_every_text_has_both_languages() {
        let toasts: Vec<_> = ToastText::all().into_iter().map(|text| toast(ToastKind::Info, text)).collect();
        assert!(toasts.iter().all(|t| t["i18n"]["zh_cn"] != t["i18n"]["en_us"]));
        insta::assert_json_snapshot!(toasts);
    }
}
