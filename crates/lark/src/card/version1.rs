use serde_json::{Map, Value, json};

/// Converts a built-in card of schema 2.0 to schema 1.0. A card that was sent from a template of schema 1.0 cannot become
/// one of schema 2.0.
pub(super) fn version1(card: &Value) -> Value {
    let elements = card["body"]["elements"].as_array().into_iter().flatten().map(element).collect::<Vec<_>>();
    json!({
        "config": { "update_multi": true, "enable_forward": false, "wide_screen_mode": true },
        "header": { "title": text(&card["header"]["title"]), "template": card["header"]["template"] },
        "elements": elements,
    })
}

fn element(element: &Value) -> Value {
    if element["tag"] == "div" {
        return json!({ "tag": "div", "text": text(&element["text"]) });
    }
    let mut buttons = Vec::new();
    collect_buttons(element, &mut buttons);
    json!({ "tag": "action", "actions": buttons })
}

fn collect_buttons(element: &Value, buttons: &mut Vec<Value>) {
    match element {
        Value::Object(fields) if element["tag"] == "button" => buttons.push(button(fields)),
        Value::Object(fields) => fields.values().for_each(|inner| collect_buttons(inner, buttons)),
        Value::Array(items) => items.iter().for_each(|inner| collect_buttons(inner, buttons)),
        _ => {}
    }
}

fn button(button: &Map<String, Value>) -> Value {
    let style = match button["type"].as_str() {
        Some("primary" | "primary_filled") => "primary",
        _ => "default",
    };
    let mut old = json!({ "tag": "button", "text": text(&button["text"]), "type": style });
    for behavior in button["behaviors"].as_array().into_iter().flatten() {
        match behavior["type"].as_str() {
            Some("open_url") => old["url"] = behavior["default_url"].clone(),
            _ => old["value"] = behavior["value"].clone(),
        }
    }
    old
}

/// Converts a text. Schema 1.0 has another name for translations, and no size or colour.
fn text(text: &Value) -> Value {
    let mut old = json!({ "tag": "plain_text", "content": text["content"] });
    if let Some(translations) = text.get("i18n_content") {
        old["i18n"] = translations.clone();
    }
    old
}
