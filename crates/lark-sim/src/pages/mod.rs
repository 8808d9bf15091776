//! Pages for a person in a browser: self-contained, Chinese or English, readable on a phone.

use askama::Template;
use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};

use crate::{
    error::SimError,
    rules::consent::Consent,
    state::{State, devices::Device},
};

struct Choice {
    union_id: String,
    name: String,
}

/// Asks a person to agree. Consent page and device page differ only in the action of the form.
#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage<'a> {
    zh: bool,
    app_name: &'a str,
    app_id: &'a str,
    scopes: Vec<&'a str>,
    people: Vec<Choice>,
    /// The form's action.
    action: String,
    /// The same page in the other language.
    other_language: String,
    user_code: &'a str,
    leads_to: &'a str,
}

#[derive(Template)]
#[template(path = "user_code.html")]
struct UserCodePage {
    zh: bool,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticePage<'a> {
    zh: bool,
    good: bool,
    title: &'a str,
    text: String,
}

/// Content of a page without a form.
#[derive(Clone, Copy)]
pub(crate) enum Notice {
    UnknownCode,
    Agreed,
    Refused,
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, [(header::CACHE_CONTROL, "no-store")], Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "sim.page.failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn people(state: &State, zh: bool) -> Vec<Choice> {
    const MAX_PEOPLE: usize = 100;
    let choice = |user: &crate::users::SimUser| Choice {
        union_id: user.union_id.clone(),
        name: if zh { user.name.clone() } else { user.en_name.clone() },
    };
    state.users.all().take(MAX_PEOPLE).map(choice).collect()
}

fn with_language(query: &[(String, String)], zh: bool) -> String {
    let mut text = url::form_urlencoded::Serializer::for_suffix(String::from("?"), 1);
    text.extend_pairs(query.iter().filter(|(key, _)| key != "lang"));
    text.append_pair("lang", if zh { "zh" } else { "en" });
    text.finish()
}

/// Returns the consent page.
pub(crate) fn consent(state: &State, consent: &Consent, query: &[(String, String)], zh: bool) -> Response {
    let page = ConsentPage {
        zh,
        app_name: &consent.app_name,
        app_id: &consent.app_id,
        scopes: consent.scope.split_whitespace().collect(),
        people: people(state, zh),
        action: with_language(query, zh),
        other_language: with_language(query, !zh),
        user_code: "",
        leads_to: &consent.redirect_uri,
    };
    html(StatusCode::OK, &page)
}

/// Returns the page of the device flow.
pub(crate) fn device(state: &State, device: &Device, user_code: &str, zh: bool) -> Response {
    let query = [("user_code".to_owned(), user_code.to_owned())];
    let page = ConsentPage {
        zh,
        app_name: state.apps.get(&device.app_id).map_or("", |app| app.app_name.as_str()),
        app_id: &device.app_id,
        scopes: device.scope.split_whitespace().collect(),
        people: people(state, zh),
        action: with_language(&query, zh),
        other_language: with_language(&query, !zh),
        user_code,
        leads_to: "",
    };
    html(StatusCode::OK, &page)
}

/// Returns the page that asks for the code on the device.
pub(crate) fn ask_user_code(zh: bool) -> Response {
    html(StatusCode::OK, &UserCodePage { zh })
}

/// Returns the page for a request for consent that is refused.
pub(crate) fn refused(error: &SimError, zh: bool) -> Response {
    let title = if zh { "无法授权" } else { "Cannot authorize" };
    html(StatusCode::BAD_REQUEST, &NoticePage { zh, good: false, title, text: error.to_string() })
}

/// Returns a page without a form.
pub(crate) fn notice(status: StatusCode, notice: Notice, zh: bool) -> Response {
    let (title, text) = match (notice, zh) {
        (Notice::UnknownCode, true) => ("代码无效", "代码不存在、已使用或已过期。"),
        (Notice::UnknownCode, false) => ("Unknown code", "The code does not exist, was used or has expired."),
        (Notice::Agreed, true) => ("授权成功", "可以返回你的设备了。"),
        (Notice::Agreed, false) => ("Authorized", "You can go back to your device."),
        (Notice::Refused, true) => ("已拒绝", "未授予任何权限。"),
        (Notice::Refused, false) => ("Declined", "Nothing was granted."),
    };
    let good = matches!(notice, Notice::Agreed);
    html(status, &NoticePage { zh, good, title, text: text.to_owned() })
}
