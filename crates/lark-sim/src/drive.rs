//! Acts of people: read cards, click buttons, consent, follow redirects.

use std::time::Duration;

use larkauth_models::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use crate::{
    callback,
    envelope::envelope,
    error::{PushError, SimError},
    rules::consent::{AUTHORIZE_PATH, Consent, authorize},
    sim::Sim,
    state::{State, after, cards::Button, messages::Message},
};

/// Reference to a button of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ButtonRef<'a> {
    /// In reading order, from 0.
    Index(usize),
    /// By its name, its text, or a text in its value.
    Name(&'a str),
}

impl From<usize> for ButtonRef<'_> {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for ButtonRef<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl ButtonRef<'_> {
    fn find(self, message: &Message) -> Result<Button, SimError> {
        let mut buttons = message.buttons().into_iter();
        match self {
            Self::Index(index) => buttons.nth(index),
            Self::Name(name) => buttons.find(|button| button.is_called(name)),
        }
        .ok_or(SimError::NoButton)
    }
}

/// Outcome of a click.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClickOutcome {
    /// Whether the button has a callback.
    pub called_back: bool,
    /// Whether the application answered in time.
    pub answered: bool,
    /// The answer, where it has content.
    pub answer: Option<Value>,
    /// The toast that the person saw.
    pub toast: Option<Value>,
    /// The error that the person saw instead, as the platform's code.
    pub error: Option<i64>,
    /// Whether the answer changed the card.
    pub card_changed: bool,
    /// The URL that the browser opened.
    pub url: Option<String>,
    /// Time from the click to the answer or to the deadline. Serialized as milliseconds.
    #[serde(serialize_with = "millis", rename = "elapsed_ms")]
    pub elapsed: Duration,
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_millis())
}

/// A page as a browser received it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Its URL, after redirects.
    pub url: String,
    /// The body.
    pub html: String,
}

impl Sim {
    /// Returns the messages to a person, oldest first: all of the application that the `open_id` belongs to.
    #[must_use]
    pub fn messages_for(&self, open_id: &str) -> Vec<Message> {
        self.state().messages.of(open_id).cloned().collect()
    }

    /// Returns all messages, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.state().messages.all().cloned().collect()
    }

    /// Returns one message.
    #[must_use]
    pub fn message(&self, message_id: &str) -> Option<Message> {
        self.state().messages.get(message_id).cloned()
    }

    /// Returns the face that a card has now.
    #[must_use]
    pub fn card(&self, message_id: &str) -> Option<Value> {
        self.state().messages.get(message_id).map(|message| message.card().clone())
    }

    /// Waits for a card in this person's chat whose current face matches. Returns the oldest of several.
    ///
    /// # Errors
    /// [`SimError::Deadline`].
    pub async fn wait_for_card(
        &self,
        open_id: &str,
        deadline: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Message, SimError> {
        let look = |sim: &Self| {
            let state = sim.state();
            state.messages.of(open_id).find(|message| wanted(message.card())).cloned()
        };
        self.wait_until(deadline, look).await
    }

    /// Recalls a message.
    ///
    /// # Errors
    /// [`SimError::NoMessage`].
    pub fn recall(&self, message_id: &str) -> Result<(), SimError> {
        self.change_message(message_id, |message| message.recalled = true)
    }

    /// Deletes a message.
    ///
    /// # Errors
    /// [`SimError::NoMessage`].
    pub fn delete_message(&self, message_id: &str) -> Result<(), SimError> {
        self.change_message(message_id, |message| message.deleted = true)
    }

    fn change_message(&self, message_id: &str, change: impl FnOnce(&mut Message)) -> Result<(), SimError> {
        self.state().messages.get_mut(message_id).map(change).ok_or(SimError::NoMessage)?;
        self.changed();
        Ok(())
    }

    /// Clicks a button as the person: the application is called back, and its answer is shown. The caller drives the
    /// browser ([`Self::consent`]).
    ///
    /// # Errors
    /// When there is no such message, button or person. An application that does not answer is an outcome, no error.
    pub async fn click<'a>(
        &self,
        message_id: &str,
        button: impl Into<ButtonRef<'a>>,
        open_id: &str,
    ) -> Result<ClickOutcome, SimError> {
        let (message, button) = self.button(message_id, button.into())?;
        self.press(message, button, open_id).await
    }

    /// As [`Self::click`], but the value carries a new code in `authorization_code`, the old style.
    ///
    /// # Errors
    /// As [`Self::click`].
    pub async fn click_with_code<'a>(
        &self,
        message_id: &str,
        button: impl Into<ButtonRef<'a>>,
        open_id: &str,
    ) -> Result<ClickOutcome, SimError> {
        let (message, mut button) = self.button(message_id, button.into())?;
        let person = self.person(open_id)?;
        let scope = button.url.as_deref().and_then(|url| Url::parse(url).ok()).and_then(|url| {
            url.query_pairs().find(|(key, _)| key == "scope").map(|(_, scope)| scope.into_owned())
        });
        let now = self.now();
        let code = self.state().grant_code(
            now,
            &message.app_id,
            &person.union_id,
            scope.as_deref().unwrap_or_default(),
            None,
            None,
        );
        let mut value = button.value.take().filter(Value::is_object).unwrap_or_else(|| json!({}));
        value["authorization_code"] = json!(code);
        button.value = Some(value);
        self.press(message, button, open_id).await
    }

    fn button(&self, message_id: &str, button: ButtonRef<'_>) -> Result<(Message, Button), SimError> {
        let message = self.message(message_id).filter(|message| !message.recalled && !message.deleted);
        let message = message.ok_or(SimError::NoMessage)?;
        if self.now() >= after(message.sent_at, self.config().lifetimes.card_interaction) {
            return Err(SimError::CardTooOld);
        }
        let button = button.find(&message)?;
        Ok((message, button))
    }

    pub(crate) async fn press(
        &self,
        message: Message,
        button: Button,
        open_id: &str,
    ) -> Result<ClickOutcome, SimError> {
        let mut outcome = ClickOutcome {
            called_back: button.value.is_some(),
            answered: false,
            answer: None,
            toast: None,
            error: None,
            card_changed: false,
            url: button.url.clone(),
            elapsed: Duration::ZERO,
        };
        if !outcome.called_back {
            return Ok(outcome);
        }
        let person = self.person(open_id)?;
        let now = self.now();
        let (token, body) = action(&mut self.state(), now, &message, &button, &person);
        let start = Instant::now();
        let answer = callback::deliver(self, &message.app_id, "event", &body).await;
        outcome.elapsed = start.elapsed();
        let now = self.now();
        self.state().callback_over(&token);
        match answer.and_then(|answer| check_answer(answer.unwrap_or_else(|| json!({})))) {
            Ok(answer) => {
                outcome.answered = true;
                outcome.toast = answer.get("toast").cloned();
                if let Some(card) = answer.get("card") {
                    match self.state().apply_answer(now, &message.app_id, &message.message_id, card) {
                        Ok(()) => outcome.card_changed = true,
                        Err(refusal) => {
                            tracing::debug!(
                                code = refusal.code,
                                msg = refusal.msg,
                                "sim.answer.card_refused"
                            );
                            outcome.error = Some(200_673);
                        }
                    }
                }
                outcome.answer = Some(answer).filter(|answer| answer != &json!({}));
            }
            Err(error) => outcome.error = Some(error.code()),
        }
        self.changed();
        Ok(outcome)
    }

    /// Opens a URL in the person's browser.
    ///
    /// # Errors
    /// [`SimError::Page`].
    pub async fn open_url(&self, url: &str) -> Result<Page, SimError> {
        let page = |error: reqwest::Error| SimError::Page(error.without_url());
        let response = self.browser().get(url).header("accept", "text/html").send().await.map_err(page)?;
        let (status, url) = (response.status().as_u16(), response.url().to_string());
        Ok(Page { status, url, html: response.text().await.map_err(page)? })
    }

    /// Agrees, as the person, on the consent page behind this URL. Returns the URL that the browser is redirected to.
    ///
    /// # Errors
    /// [`SimError::Consent`] when the page refuses, [`SimError::NoUser`].
    pub async fn consent(&self, url: &str, open_id: &str) -> Result<String, SimError> {
        let union_id = self.person(open_id)?.union_id;
        self.decide(url, Some(&union_id)).await
    }

    /// Declines on the consent page. Returns the URL that the browser is redirected to.
    ///
    /// # Errors
    /// [`SimError::Consent`] when the page refuses.
    pub async fn decline(&self, url: &str) -> Result<String, SimError> {
        self.decide(url, None).await
    }

    async fn decide(&self, url: &str, union_id: Option<&str>) -> Result<String, SimError> {
        let bad = |_| SimError::Consent("not a URL");
        let mut page = Url::parse(url).map_err(bad)?;
        if page.path() != AUTHORIZE_PATH {
            // A link of the application may redirect to the page.
            page = Url::parse(&self.open_url(url).await?.url).map_err(bad)?;
        }
        let ours = page.as_str().starts_with(self.base_url()) && page.path() == AUTHORIZE_PATH;
        if !ours {
            return Err(SimError::Consent("the URL does not lead to the consent page"));
        }
        let query: Vec<_> = page.query_pairs().into_owned().collect();
        let now = self.now();
        let redirect = {
            let mut state = self.state();
            let consent = Consent::read(&state, &query)?;
            authorize(&mut state, now, &consent, union_id)?
        };
        self.changed();
        Ok(redirect.into())
    }

    /// Follows the redirect to the application, as a browser.
    ///
    /// # Errors
    /// [`SimError::Page`].
    pub async fn follow(&self, redirect: &str) -> Result<Page, SimError> {
        self.open_url(redirect).await
    }

    /// Enters a user code of the device flow and agrees, or declines with `None`. Returns false when no such flow is
    /// pending.
    ///
    /// # Errors
    /// [`SimError::NoUser`].
    pub fn decide_device(&self, user_code: &str, open_id: Option<&str>) -> Result<bool, SimError> {
        let person = open_id.map(|open_id| self.person(open_id)).transpose()?;
        let now = self.now();
        let union_id = person.as_ref().map(|person| person.union_id.as_str());
        let decided = self.state().decide_device(now, user_code, union_id);
        self.changed();
        Ok(decided)
    }

    /// Revokes everything that the person granted to an application.
    ///
    /// # Errors
    /// [`SimError::NoUser`].
    pub fn revoke(&self, app_id: &str, open_id: &str) -> Result<(), SimError> {
        let person = self.person(open_id)?;
        let now = self.now();
        self.state().revoke(app_id, &person.union_id, now);
        Ok(())
    }
}

/// Returns the callback of a click and its token.
fn action(
    state: &mut State,
    now: Timestamp,
    message: &Message,
    button: &Button,
    person: &crate::users::SimUser,
) -> (String, Value) {
    let token = state.issue_card_token(now, &message.app_id, &message.message_id);
    let mut operator = json!({
        "tenant_key": person.tenant_key, "union_id": person.union_id,
        "open_id": state.users.open_id(&message.app_id, person),
    });
    if let Some(user_id) = &person.user_id {
        operator["user_id"] = json!(user_id);
    }
    let mut action = json!({"value": button.value, "tag": "button", "timezone": "Asia/Shanghai"});
    if let Some(name) = &button.name {
        action["name"] = json!(name);
    }
    let event = json!({
        "operator": operator, "token": token, "action": action, "host": "im_message",
        "context": {"open_message_id": message.message_id, "open_chat_id": message.chat_id},
    });
    let body = envelope(state, now, &message.app_id, "card.action.trigger", &event);
    (token, body)
}

/// Checks that the answer is an object that holds nothing but a toast and a card.
fn check_answer(answer: Value) -> Result<Value, PushError> {
    let known =
        |fields: &serde_json::Map<String, Value>| fields.keys().all(|key| key == "toast" || key == "card");
    let toast_ok = match answer.get("toast") {
        None => true,
        Some(toast) => {
            let kind = toast["type"].as_str().unwrap_or("info");
            ["info", "success", "warning", "error"].contains(&kind) && toast["content"].is_string()
        }
    };
    if answer.as_object().is_some_and(known) && toast_ok { Ok(answer) } else { Err(PushError::BadBody) }
}
