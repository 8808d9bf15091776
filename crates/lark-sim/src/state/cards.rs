//! Reading card JSON of both versions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::codes::Refusal;

/// A button of a card, in reading order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Button {
    /// Its text, in the card's default language.
    pub text: String,
    /// Its `name`, if any.
    pub name: Option<String>,
    /// The URL that a click opens in the browser.
    pub url: Option<String>,
    /// The value that a click sends to the application: an object or a text.
    pub value: Option<Value>,
}

impl Button {
    /// Returns whether `name` refers to this button: the button's name, its text, or a text in its value
    /// (`{"action": name}`).
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let in_value = match &self.value {
            Some(Value::Object(fields)) => fields.values().any(|field| field == name),
            Some(Value::String(text)) => text == name,
            _ => false,
        };
        self.name.as_deref() == Some(name) || self.text == name || in_value
    }

    fn read(node: &Map<String, Value>) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let behaviours = node.get("behaviors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let behaviour = |kind: &str| behaviours.iter().find(|behaviour| behaviour["type"] == kind);
        let url = text(node.get("url"))
            .or_else(|| text(node.get("multi_url").and_then(|urls| urls.get("url"))))
            .or_else(|| text(behaviour("open_url").and_then(|open| open.get("default_url"))));
        Self {
            text: text(node.get("text").and_then(|text| text.get("content"))).unwrap_or_default(),
            name: text(node.get("name")),
            url: url.filter(|url| !url.is_empty()),
            value: node
                .get("value")
                .or_else(|| behaviour("callback").and_then(|call| call.get("value")))
                .cloned(),
        }
    }
}

/// Returns all buttons of a card, in reading order.
pub(crate) fn buttons(card: &Value) -> Vec<Button> {
    let mut found = Vec::new();
    walk(card, &mut |node| {
        if node.get("tag").is_some_and(|tag| tag == "button") {
            found.push(Button::read(node));
        }
    });
    found
}

fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(node) => {
            visit(node);
            node.values().for_each(|child| walk(child, visit));
        }
        Value::Array(items) => items.iter().for_each(|child| walk(child, visit)),
        _ => {}
    }
}

/// Checks a card and fills in its template. Returns the face that people see.
pub(crate) fn render(card: &Value, templates: &BTreeMap<String, Value>) -> Result<Value, Refusal> {
    const BAD: Refusal = Refusal::new(400, 230_099, "Failed to create card content.");
    if card["type"] == "template" {
        let id = card["data"]["template_id"].as_str().ok_or(BAD)?;
        let template = templates.get(id).ok_or(BAD)?;
        return Ok(fill(template, &card["data"]["template_variable"]));
    }
    let elements = if is_v2(card) { &card["body"]["elements"] } else { &card["elements"] };
    let elements = if elements.is_null() { &card["i18n_elements"] } else { elements };
    if !(elements.is_array() || elements.is_object()) {
        return Err(BAD);
    }
    let mut old_style = false;
    walk(card, &mut |node| old_style |= node.get("tag").is_some_and(|tag| tag == "action"));
    if is_v2(card) && old_style {
        return Err(Refusal::new(400, 230_099, "Failed to create card content: unsupported tag action."));
    }
    Ok(card.clone())
}

fn fill(template: &Value, variables: &Value) -> Value {
    match template {
        Value::String(text) => {
            let mut text = text.clone();
            for (name, value) in variables.as_object().into_iter().flatten() {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text = text.replace(&format!("${{{name}}}"), &value);
            }
            Value::String(text)
        }
        Value::Array(items) => items.iter().map(|item| fill(item, variables)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), fill(value, variables)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// Returns whether the card is of version 2.
pub(crate) fn is_v2(card: &Value) -> bool {
    card["schema"] == "2.0"
}

/// Returns whether updates of this card are visible to all viewers.
pub(crate) fn is_shared(card: &Value) -> bool {
    card["config"]["update_multi"] == true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn buttons_of_both_card_versions_returns_url_and_value() {
        let v1 = json!({"elements": [{"tag": "action", "actions": [
            {"tag": "button", "text": {"tag": "plain_text", "content": "Go"}, "url": "https://a.example", "value": {"action": "go"}}]}]});
        let v2 = json!({"schema": "2.0", "body": {"elements": [{"tag": "column_set", "columns": [{"elements": [
            {"tag": "button", "name": "yes", "text": {"content": "Go"}, "behaviors": [
                {"type": "open_url", "default_url": "https://a.example"}, {"type": "callback", "value": {"action": "go"}}]}]}]}]}});
        for card in [v1, v2] {
            let found = buttons(&card);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].url.as_deref(), Some("https://a.example"));
            assert_eq!(found[0].value, Some(json!({"action": "go"})));
            assert!(found[0].is_called("go") && found[0].is_called("Go") && !found[0].is_called("stop"));
        }
    }

    #[test]
    fn render_fills_templates_and_refuses_old_tags_in_version_2() {
        let templates = BTreeMap::from([(
            "t1".to_owned(),
            json!({"elements": [{"tag": "markdown", "content": "Hi ${who}"}]}),
        )]);
        let card =
            json!({"type": "template", "data": {"template_id": "t1", "template_variable": {"who": "you"}}});
        assert_eq!(render(&card, &templates).unwrap()["elements"][0]["content"], "Hi you");
        let mixed = json!({"schema": "2.0", "body": {"elements": [{"tag": "action", "actions": []}]}});
        assert_eq!(render(&mixed, &templates).unwrap_err().code, 230_099);
    }
}
