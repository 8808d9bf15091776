//! Callbacks of Lark, from the long connection or over HTTP: turned into messages, published, answered.

use std::time::Duration;

use larkauth_contracts::message::{CardActionKind, CardActionTriggered, Reply, UnrecognizedCallback};
use larkauth_lark::{
    card::{self, ButtonAction, ButtonKind, ToastKind, ToastText},
    event::{CARD_ACTION, CardAction, Event, PushForm},
};
use larkauth_messaging::{Outgoing, PendingReply};
use larkauth_models::{AppId, CardFace, EventId, FailureReason, SecretString, SessionId};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    cards,
    context::Context,
    error::AuthError,
    relay::{
        self, Relayed,
        foreign::{Classified, Click, Foreign, UNREADABLE, classify},
    },
    seal,
};

/// The answer to a callback.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The body for Lark. `None` asks Lark to push the event again, which never happens for a click.
    pub answer: Option<Value>,
    /// The card face that the answer shows; an argument of [`Context::answer_sent`].
    pub shows: Option<(SessionId, CardFace)>,
    /// A label for metrics. larkauth's own: `in_time`, `late`, `unknown_session`. Of other programs: `relayed`,
    /// `relay_late`, `foreign` when no program receives it. Else `publish_failed`, `unrecognized`.
    pub outcome: &'static str,
}

impl Context {
    /// Takes one verified callback. The answer is positive only after the broker confirmed the message, or another program
    /// was given the event.
    pub async fn take_callback(&self, app_id: &AppId, payload: &[u8], received_at: Instant) -> Answered {
        match classify(app_id, payload) {
            Classified::Click(click) => {
                let Click { event_id, form, action, button } = *click;
                if let Some(advice) = form.advice() {
                    tracing::warn!("auth.callback.old_form: {advice}");
                }
                let outgoing = self.card_action(app_id, &event_id, action, button);
                in_form(form, self.publish_action(outgoing, received_at).await)
            }
            Classified::Foreign(event) => self.pass_on(app_id, &event, received_at).await,
            Classified::Unrecognized { event_id, event_type, reason } => {
                self.publish_unrecognized(app_id, &event_id, event_type, reason, payload).await
            }
        }
    }

    /// Passes an event on that is not larkauth's. The answer of another program is passed back when it comes in time.
    async fn pass_on(&self, app_id: &AppId, event: &Foreign, received_at: Instant) -> Answered {
        let until = received_at + self.policy.answer_deadline;
        let (answer, outcome) = match self.relay.pass_on(app_id, event, until).await {
            Relayed::Taken(Some(answer)) => (answer, "relayed"),
            Relayed::Taken(None) if event.wants_answer() => (relay::nothing(), "relay_late"),
            Relayed::Taken(None) => (relay::nothing(), "relayed"),
            Relayed::NotTaken => (relay::nothing(), "foreign"),
            Relayed::Failed => return not_taken(&event.payload),
        };
        Answered { answer: Some(answer), shows: None, outcome }
    }

    /// Posts the events that wait for `EVENT_RELAY_URL`, until `stopping`, and then gives what is left one more attempt.
    pub async fn relay_events(&self, stopping: CancellationToken) {
        self.relay.run(stopping).await;
    }

    fn card_action(
        &self,
        app_id: &AppId,
        event_id: &EventId,
        action: CardAction,
        button: ButtonAction,
    ) -> Result<Outgoing, AuthError> {
        let session_id = button.session_id;
        tracing::Span::current().record("session_id", tracing::field::display(session_id));
        let owner = session_id.to_string();
        let code = button
            .authorization_code
            .map(|code| seal::seal(&self.cipher, seal::CODE, &owner, &code))
            .transpose()?;
        let data = CardActionTriggered {
            session_id,
            action: match button.action {
                ButtonKind::Authorize => CardActionKind::Authorize,
                ButtonKind::Cancel => CardActionKind::Cancel,
                ButtonKind::Retry => CardActionKind::Retry,
            },
            operator_open_id: action.operator.open_id,
            operator_user_id: action.operator.user_id,
            operator_union_id: action.operator.union_id,
            message_id: action.message_id,
            code,
        };
        self.outgoing(event_id.clone(), app_id, data)
    }

    async fn publish_action(&self, outgoing: Result<Outgoing, AuthError>, received_at: Instant) -> Answered {
        let published = match outgoing {
            Ok(message) => self.bus.request(message).await.map_err(AuthError::from),
            Err(error) => Err(error),
        };
        match published {
            Ok(reply) => {
                in_time(reply, received_at + self.policy.answer_deadline).await.unwrap_or_else(|| Answered {
                    answer: Some(toast(ToastKind::Info, ToastText::Working)),
                    shows: None,
                    outcome: "late",
                })
            }
            Err(error) => {
                tracing::error!(%error, "auth.callback.publish: the person is asked to click again");
                try_again()
            }
        }
    }

    /// Publishes a callback that larkauth cannot read as a dead letter for an operator. It may carry secrets, so it is sealed.
    async fn publish_unrecognized(
        &self,
        app_id: &AppId,
        event_id: &EventId,
        event_type: String,
        reason: String,
        payload: &[u8],
    ) -> Answered {
        tracing::warn!(event_type, reason, "auth.callback.unrecognized");
        let may_be_click = event_type == CARD_ACTION || event_type == UNREADABLE;
        let text = SecretString::from(String::from_utf8_lossy(payload).into_owned());
        let outgoing = seal::seal(&self.cipher, seal::CALLBACK, app_id.as_str(), &text)
            .map_err(AuthError::from)
            .and_then(|payload| {
                self.outgoing(event_id.clone(), app_id, UnrecognizedCallback { event_type, reason, payload })
            });
        let kept = match outgoing {
            Ok(message) => self.bus.publish(message).await.map_err(AuthError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::error!(%error, "auth.callback.publish: an unrecognized callback could not be kept");
            return not_taken(payload);
        }
        let answer = if may_be_click {
            toast(ToastKind::Info, ToastText::UnknownButton)
        } else {
            card::answer(None, None)
        };
        Answered { answer: Some(answer), shows: None, outcome: "unrecognized" }
    }

    /// Records the face that an answer showed, after the answer went out. Requests an update when the session ended
    /// meanwhile.
    ///
    /// # Errors
    /// The store's or the bus's; [`Context::reconcile_cards`](Self::reconcile_cards) finds such cards later.
    pub async fn answer_sent(&self, app_id: &AppId, shown: (SessionId, CardFace)) -> Result<(), AuthError> {
        let (session_id, face) = shown;
        self.named_session(app_id, session_id).await?;
        self.store.record_face(session_id, face).await?;
        let session = self.existing_session(session_id).await?;
        if session.state.is_final() && cards::face_of(session.state) != face {
            self.request_card_face(app_id, session_id, Duration::ZERO).await?;
        }
        Ok(())
    }
}

/// Returns the answer to a callback that could not be published: "please try again" for a click, and a refusal for
/// anything else, so that Lark pushes it again.
#[must_use]
pub fn not_taken(payload: &[u8]) -> Answered {
    if is_click(payload) { try_again() } else { Answered { answer: None, ..try_again() } }
}

/// Returns the answer to a click of an application that is switched off: a toast that says so, and no effect. `None` for
/// anything else.
#[must_use]
pub fn of_disabled_application(payload: &[u8]) -> Option<Value> {
    is_click(payload).then(|| toast(ToastKind::Error, ToastText::Failed(FailureReason::AppDisabled)))
}

fn is_click(payload: &[u8]) -> bool {
    Event::parse(payload).is_ok_and(|event| event.event_type == CARD_ACTION)
}

/// Removes the card from the answer to a historical callback, whose answer cannot hold one. The card is updated after the
/// answer instead.
fn in_form(form: PushForm, mut answered: Answered) -> Answered {
    if form == PushForm::OldCard {
        answered.answer.as_mut().and_then(Value::as_object_mut).map(|answer| answer.remove("card"));
        answered.shows = None;
    }
    answered
}

fn try_again() -> Answered {
    Answered {
        answer: Some(toast(ToastKind::Warning, ToastText::TryAgain)),
        shows: None,
        outcome: "publish_failed",
    }
}

fn toast(kind: ToastKind, text: ToastText) -> Value {
    card::answer(Some(card::toast(kind, text)), None)
}

async fn in_time(mut reply: PendingReply, until: Instant) -> Option<Answered> {
    let left = until.saturating_duration_since(Instant::now());
    let body = reply.wait(left).await?;
    let reply: Reply = serde_json::from_slice(&body)
        .inspect_err(
            |error| tracing::error!(%error, "auth.callback.reply: the worker's reply cannot be read"),
        )
        .ok()?;
    let outcome = if reply.unknown_session { "unknown_session" } else { "in_time" };
    Some(Answered { answer: reply.answer, shows: reply.shows, outcome })
}
