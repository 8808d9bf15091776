//! The cards that a person sees, as Card JSON 2.0 with both languages in one card, and the clicks on their buttons.
//!
//! Names and messages of other parties are shown as plain text only, so that no part of them becomes markdown or a mention.
//! All texts are in `text.rs`. To add a face: add its texts there, its colour in `colour` and its elements in `body`, then
//! review the new snapshots.

mod action;
mod answer;
mod scopes;
#[cfg(test)]
mod tests;
mod text;
mod version1;

use std::{fmt, time::Duration};

use larkauth_models::{
    CardFace, CardOptions, ExposeSecret, FailureReason, SecretString, SessionId, text::is_plain,
};
use serde_json::{Value, json};
use url::Url;

use self::text::{AppName, Text};
pub use self::{
    action::{ButtonAction, ButtonKind},
    answer::{ToastKind, answer, callback_card, toast},
    text::ToastText,
};

/// Longest custom message shown, in characters.
const MAX_MESSAGE: usize = 1000;
/// Longest name or scope shown, in characters.
const MAX_NAME: usize = 100;
/// Longest list of scopes in words, in bytes of both languages.
const MAX_LISTED: usize = 4000;
/// Most scopes listed. Lark accepts no more in one consent.
const MAX_SCOPES: usize = 50;

/// The content of a card.
#[derive(Clone, Copy, Debug)]
pub struct CardContent<'a> {
    /// The kind of card.
    pub face: CardFace,
    /// The session that the buttons belong to.
    pub session_id: SessionId,
    /// The requested scopes, listed on a detailed card.
    pub scopes: &'a [String],
    /// The options of the invitation. Without a name in them, the application is "this app".
    pub options: &'a CardOptions,
    /// The address of the consent page. Without it the authorize button only sends a callback.
    pub authorize_url: Option<&'a Url>,
    /// The code for a person who consents on another device.
    pub device: Option<DeviceCode<'a>>,
    /// Time left to answer.
    pub valid_for: Option<Duration>,
    /// The person's name.
    pub person_name: Option<&'a str>,
    /// The person's English name, where it is another name.
    pub person_en_name: Option<&'a str>,
    /// Why the session failed.
    pub failure: Option<FailureReason>,
}

/// What a person needs who consents on another device (RFC 8628 section 3.3).
#[derive(Clone, Copy)]
pub struct DeviceCode<'a> {
    /// The page on which the person enters the code.
    pub verification_uri: &'a Url,
    /// The code.
    pub user_code: &'a SecretString,
}

impl fmt::Debug for DeviceCode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCode").finish_non_exhaustive()
    }
}

/// Renders the card: the `content` of a message, which a callback's answer or a delayed update wraps.
///
/// A template replaces the two faces that invite, if one is set. The other faces are always built in, as a template does
/// not show the result. The variables of a template are texts, empty where unknown: `face`, `session_id`,
/// `authorize_url`, `app_name`, `requested_by`, `person_name`, `custom_message`, `privacy_policy_url`, `scopes` (one a line),
/// `valid_minutes`, and for a device authorization `verification_uri` and `user_code`. Its buttons send the callback
/// `{"session_id": …, "action": "authorize" | "cancel"}`.
#[must_use]
pub fn render(content: &CardContent<'_>) -> Value {
    match &content.options.template_id {
        Some(id) if invites(content.face) => template(id, content),
        _ => built_in(content),
    }
}

/// Renders a card for the answer to a click. The card of an invitation from a template stays the template, whose variable
/// `face` says what happened: a card of another schema would be refused, and the schema of a template is not known. Returns
/// whether the result shows the face.
#[must_use]
pub fn render_answer(content: &CardContent<'_>) -> (Value, bool) {
    match &content.options.template_id {
        Some(id) => (template(id, content), invites(content.face)),
        None => (built_in(content), true),
    }
}

/// Renders a card for an update by message id: the forms to try, in this order. The schema of a template is not known, so
/// the card of an invitation from a template has a form for each schema. Lark certainly refuses to replace a card of schema
/// 2.0 by one of schema 1.0, so that schema 1.0 comes first.
#[must_use]
pub fn render_update(content: &CardContent<'_>) -> Vec<Value> {
    let card = render(content);
    if content.options.template_id.is_none() || invites(content.face) {
        return vec![card];
    }
    vec![version1::version1(&card), card]
}

const fn invites(face: CardFace) -> bool {
    matches!(face, CardFace::Invitation | CardFace::Reauthorize)
}

fn built_in(content: &CardContent<'_>) -> Value {
    let app = name_of(content);
    let title = text::title(content.face, AppName(app.as_deref()));
    json!({
        "schema": "2.0",
        // Forwarding is disabled, as only the invited person's consent counts.
        "config": { "update_multi": true, "enable_forward": false, "summary": summary(&title) },
        "header": { "title": localized(&title), "template": colour(content.face) },
        "body": { "elements": body(content, AppName(app.as_deref())) },
    })
}

const fn colour(face: CardFace) -> &'static str {
    match face {
        CardFace::Invitation | CardFace::Processing => "blue",
        CardFace::Reauthorize => "orange",
        CardFace::Done => "green",
        CardFace::Declined | CardFace::Expired => "grey",
        CardFace::Failed => "red",
    }
}

fn body(content: &CardContent<'_>, app: AppName<'_>) -> Vec<Value> {
    match content.face {
        CardFace::Invitation | CardFace::Reauthorize => invitation(content, app),
        CardFace::Processing => {
            let mut elements = if content.authorize_url.is_some() {
                let buttons = side_by_side(vec![
                    authorize_button(content, &text::OPEN_AGAIN),
                    callback_button(content, ButtonKind::Cancel, &text::DECLINE, "default"),
                ]);
                vec![paragraph(&localized(&text::CONFIRM_ON_PAGE)), buttons]
            } else {
                vec![paragraph(&localized(&text::WORKING)), authorize_button(content, &text::AUTHORIZE)]
            };
            elements.extend(content.device.map(other_device));
            elements
        }
        CardFace::Done => {
            let zh = content.person_name.map(|name| plain(name, MAX_NAME));
            let en = content.person_en_name.map(|name| plain(name, MAX_NAME)).or_else(|| zh.clone());
            vec![paragraph(&localized(&text::done(zh.as_deref(), en.as_deref(), app)))]
        }
        CardFace::Declined => vec![paragraph(&localized(&text::declined(app)))],
        CardFace::Expired => vec![
            paragraph(&localized(&text::EXPIRED)),
            callback_button(content, ButtonKind::Retry, &text::ASK_AGAIN, "primary"),
        ],
        CardFace::Failed => vec![
            paragraph(&localized(&text::failure(content.failure))),
            callback_button(content, ButtonKind::Retry, &text::TRY_AGAIN, "primary"),
        ],
    }
}

fn invitation(content: &CardContent<'_>, app: AppName<'_>) -> Vec<Value> {
    let mut elements = Vec::new();
    let detailed = content.options.include_description;
    if content.face == CardFace::Reauthorize {
        elements.push(paragraph(&localized(&text::reauthorization(content.options.reauthorize, app))));
    } else if !detailed {
        elements.push(paragraph(&localized(&text::INVITATION_CONCISE)));
    }
    if detailed {
        elements.push(paragraph(&localized(&text::invitation(app))));
    }
    if let Some(message) = &content.options.custom_message {
        elements.push(paragraph(&verbatim(&plain(message, MAX_MESSAGE))));
    }
    if detailed {
        // `offline_access` has a sentence of its own and is not listed.
        let (offline, others): (Vec<_>, Vec<_>) =
            content.scopes.iter().partition(|scope| *scope == "offline_access");
        if !others.is_empty() {
            elements.push(paragraph(&localized(&text::SCOPES)));
            elements.push(paragraph(&listed(&others)));
        }
        if !offline.is_empty() {
            elements.push(note(&text::OFFLINE));
        }
    }
    if let Some(name) = &content.options.requested_by {
        elements.push(note(&text::requested_by(&line(name))));
    }
    if let Some(left) = content.valid_for {
        elements.push(note(&text::valid_for(left)));
    }
    elements.push(side_by_side(vec![
        authorize_button(content, &text::AUTHORIZE),
        callback_button(content, ButtonKind::Cancel, &text::DECLINE, "default"),
    ]));
    elements.extend(content.device.map(other_device));
    if let Some(url) = &content.options.privacy_policy_url {
        elements.push(button(&text::PRIVACY_POLICY, "primary_text", &[open_url(url)]));
    }
    elements
}

/// Returns a line for each scope: what it permits, and its name. A list that would take too much of the card has the names
/// only.
fn listed(scopes: &[&String]) -> Value {
    let names: Vec<_> = scopes.iter().take(MAX_SCOPES).map(|scope| line(scope)).collect();
    let lines = |with_words: fn(&Text, &str) -> String| {
        let line = |name: &String| match scopes::words(name) {
            Some(words) => format!("• {}", with_words(&words, name)),
            None => format!("• {name}"),
        };
        names.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let zh_cn = lines(|words, name| format!("{}（{name}）", words.zh_cn));
    let en_us = lines(|words, name| format!("{} ({name})", words.en_us));
    if zh_cn.len() + en_us.len() > MAX_LISTED {
        return verbatim(&names.iter().map(|name| format!("• {name}")).collect::<Vec<_>>().join("\n"));
    }
    localized(&text::formatted(zh_cn, en_us))
}

fn name_of(content: &CardContent<'_>) -> Option<String> {
    content.options.app_name.as_deref().map(line).filter(|name| !name.trim().is_empty())
}

/// Returns a name as one short line.
fn line(name: &str) -> String {
    plain(name, MAX_NAME).replace('\n', " ")
}

fn template(id: &str, content: &CardContent<'_>) -> Value {
    // A template may show a variable as markdown, so the characters of tags and links are replaced.
    let escaped = |text: &str, max| {
        let swap = |c| match c {
            '<' => '‹',
            '>' => '›',
            '[' => '［',
            ']' => '］',
            other => other,
        };
        plain(text, max).chars().map(swap).collect::<String>()
    };
    let name = |text: Option<&str>| text.map(|text| escaped(text, MAX_NAME)).unwrap_or_default();
    let scopes: Vec<_> =
        content.scopes.iter().take(MAX_SCOPES).map(|scope| escaped(scope, MAX_NAME)).collect();
    json!({
        "type": "template",
        "data": {
            "template_id": id,
            "template_variable": {
                "face": content.face,
                "session_id": content.session_id,
                "authorize_url": content.authorize_url.map(Url::as_str).unwrap_or_default(),
                "app_name": name(content.options.app_name.as_deref()),
                "requested_by": name(content.options.requested_by.as_deref()),
                "person_name": name(content.person_name),
                "custom_message": escaped(content.options.custom_message.as_deref().unwrap_or_default(), MAX_MESSAGE),
                "privacy_policy_url": content.options.privacy_policy_url.as_ref().map(Url::as_str).unwrap_or_default(),
                "scopes": scopes.join("\n"),
                "verification_uri": content.device.map(|code| code.verification_uri.as_str()).unwrap_or_default(),
                "user_code": content.device.map(|code| escaped(code.user_code.expose_secret(), MAX_NAME)).unwrap_or_default(),
                "valid_minutes": content.valid_for.map(|left| text::nearest_minute(left).to_string()).unwrap_or_default(),
            },
        },
    })
}

/// Cuts a text to length and drops characters that are invisible or change the direction of writing, so that a text
/// cannot pass for another one.
fn plain(text: &str, max: usize) -> String {
    text.chars().filter(|c| *c == '\n' || is_plain(*c)).take(max).collect()
}

/// Returns a text in both languages. A person with another language sees English.
fn localized(text: &Text) -> Value {
    json!({
        "tag": "plain_text",
        "content": text.en_us,
        "i18n_content": { "zh_cn": text.zh_cn, "en_us": text.en_us },
    })
}

/// Returns the summary that the list of chats shows.
fn summary(text: &Text) -> Value {
    json!({ "content": text.en_us, "i18n_content": { "zh_cn": text.zh_cn, "en_us": text.en_us } })
}

/// Returns a text of another party, the same in every language.
fn verbatim(text: &str) -> Value {
    json!({ "tag": "plain_text", "content": text })
}

fn paragraph(text: &Value) -> Value {
    json!({ "tag": "div", "text": text })
}

fn note(text: &Text) -> Value {
    let mut text = localized(text);
    text["text_size"] = "notation".into();
    text["text_color"] = "grey".into();
    paragraph(&text)
}

fn other_device(code: DeviceCode<'_>) -> Value {
    note(&text::other_device(
        code.verification_uri.as_str(),
        &plain(code.user_code.expose_secret(), MAX_NAME),
    ))
}

fn authorize_button(content: &CardContent<'_>, label: &Text) -> Value {
    // The button opens the page and sends the callback.
    let mut behaviors: Vec<_> = content.authorize_url.map(open_url).into_iter().collect();
    behaviors.push(callback(content, ButtonKind::Authorize));
    button(label, "primary_filled", &behaviors)
}

fn callback_button(content: &CardContent<'_>, action: ButtonKind, label: &Text, style: &str) -> Value {
    button(label, style, &[callback(content, action)])
}

fn button(label: &Text, style: &str, behaviors: &[Value]) -> Value {
    json!({ "tag": "button", "text": localized(label), "type": style, "behaviors": behaviors })
}

fn open_url(url: &Url) -> Value {
    json!({ "type": "open_url", "default_url": url })
}

fn callback(content: &CardContent<'_>, action: ButtonKind) -> Value {
    json!({ "type": "callback", "value": action.value(content.session_id) })
}

fn side_by_side(elements: Vec<Value>) -> Value {
    let columns: Vec<_> = elements
        .into_iter()
        .map(|element| json!({ "tag": "column", "width": "auto", "elements": [element] }))
        .collect();
    json!({ "tag": "column_set", "flex_mode": "flow", "horizontal_spacing": "8px", "columns": columns })
}
