//! What the worker does with each message.
//!
//! The policy, for all of them: a body that is not the message it should be is dead at once; a store, bus or Lark that
//! is down means retry with backoff; a session that has ended means done. Nothing is dropped, nothing loops hot. Every
//! handler is idempotent: effects are conditional transitions in the store, and events that had theirs are remembered.

mod budget;
mod card_action;
mod card_face;
mod exchange;
mod invitation;
mod oauth_redirect;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::{
    message::{DecodeError, Envelope, Message, Reply},
    topology::Queue,
};
use larkauth_lark::error::{ErrorKind, LarkError};
use larkauth_messaging::{BusError, Consume, Delivery, Handler, Verdict};
use larkauth_models::EventId;
use larkauth_storage::{CipherError, StorageError};
use tracing::{Instrument, field::Empty};

pub use self::budget::HANDLER_DEADLINE;
use crate::{AuthError, Context};

/// Every queue this project consumes, with its handler.
#[must_use]
pub fn consumers(context: &Context, concurrency: u16) -> Vec<(Consume, Arc<dyn Handler>)> {
    let handler = |queue| -> Arc<dyn Handler> {
        let context = context.clone();
        match queue {
            Queue::Invitations => Arc::new(invitation::InvitationHandler(context)),
            Queue::CardActions => Arc::new(card_action::CardActionHandler(context)),
            Queue::OauthRedirects => Arc::new(oauth_redirect::OauthRedirectHandler(context)),
            Queue::CardFaces => Arc::new(card_face::CardFaceHandler(context)),
        }
    };
    Queue::ALL
        .iter()
        .map(|queue| {
            let what = Consume { queue: *queue, concurrency, handler_deadline: HANDLER_DEADLINE };
            let handler: Arc<dyn Handler> = Arc::new(Spanned { queue: *queue, handler: handler(*queue) });
            (what, handler)
        })
        .collect()
}

/// Handles each delivery in a span of its own, which [`decode`] gives the identifiers that every log line carries.
struct Spanned {
    queue: Queue,
    handler: Arc<dyn Handler>,
}

#[async_trait]
impl Handler for Spanned {
    async fn handle(&self, delivery: Delivery) -> Verdict {
        let span = tracing::info_span!(
            "auth.handle",
            otel.name = %format_args!("auth.{}.handle", self.queue),
            app_id = Empty,
            session_id = Empty,
        );
        self.handler.handle(delivery).instrument(span).await
    }
}

/// An event id made of a kind and what it is about; other characters than ids may have become `-`.
pub(crate) fn id(kind: &str, about: &str) -> EventId {
    let text: String = format!("{kind}-{about}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "_-.@:".contains(c) { c } else { '-' })
        .take(128)
        .collect();
    #[expect(clippy::expect_used, reason = "the text was just made of allowed characters, and is not empty")]
    EventId::new(text).expect("an event id")
}

/// Why a handler could not finish.
#[derive(Debug)]
enum Trouble {
    /// Comes again.
    Retry { after: Option<Duration>, reason: String },
    /// Dead letter.
    Dead(String),
}

/// The cure where somebody was asked by user id and Lark does not tell that of anybody.
const USER_ID_PERMISSION: &str = "give the application the permission contact:user.employee_id:readonly in the developer console, or ask by open id";

type Handled = Result<Option<Reply>, Trouble>;

impl Trouble {
    fn later(after: Duration, reason: &str) -> Self {
        Self::Retry { after: Some(after), reason: reason.to_owned() }
    }
}

impl From<StorageError> for Trouble {
    /// Even what does not mend itself (a missing key, an old schema) is kept and tried again: an operator mends it.
    fn from(error: StorageError) -> Self {
        Self::Retry { after: None, reason: error.to_string() }
    }
}
impl From<BusError> for Trouble {
    fn from(error: BusError) -> Self {
        Self::Retry { after: None, reason: error.to_string() }
    }
}
impl From<CipherError> for Trouble {
    fn from(error: CipherError) -> Self {
        match error {
            CipherError::UnknownKey(_) | CipherError::NoKey => {
                Self::Retry { after: None, reason: error.to_string() }
            }
            CipherError::Malformed | CipherError::Rejected(_) | CipherError::BadKeyId(_) => {
                Self::Dead(format!("a sealed secret in it: {error}"))
            }
        }
    }
}
impl From<DecodeError> for Trouble {
    fn from(error: DecodeError) -> Self {
        Self::Dead(error.to_string())
    }
}
impl From<LarkError> for Trouble {
    fn from(error: LarkError) -> Self {
        let reason = error.to_string();
        match error.kind {
            ErrorKind::Transient | ErrorKind::Unknown | ErrorKind::App => Self::Retry { after: None, reason },
            ErrorKind::RateLimited => Self::Retry { after: error.retry_after, reason },
            _ => Self::Dead(reason),
        }
    }
}
impl From<AuthError> for Trouble {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Storage(error) => error.into(),
            AuthError::Bus(error) => error.into(),
            AuthError::Lark(error) => error.into(),
            AuthError::Cipher(error) => error.into(),
            AuthError::AppFrozen { .. } | AuthError::AppNotFound(_) | AuthError::AppDisabled(_) => {
                Self::Retry { after: None, reason: error.to_string() }
            }
            _ => Self::Dead(error.to_string()),
        }
    }
}

fn verdict(handled: Handled) -> Verdict {
    match handled {
        Ok(None) => Verdict::DONE,
        Ok(Some(reply)) => Verdict::Done {
            reply: serde_json::to_vec(&reply)
                .inspect_err(|error| tracing::error!(%error, "auth.reply.encode"))
                .ok()
                .map(Into::into),
        },
        Err(Trouble::Retry { after, reason }) => Verdict::Retry { after, reason },
        Err(Trouble::Dead(reason)) => Verdict::Dead { reason },
    }
}

/// Decodes, and puts the identifiers on the span of this delivery.
fn decode<T: Message>(delivery: &Delivery) -> Result<Envelope<T>, Trouble> {
    let envelope = Envelope::<T>::decode(&delivery.body)?;
    let span = tracing::Span::current();
    span.record("app_id", tracing::field::display(&envelope.appid));
    if let Some(session_id) = &envelope.subject {
        span.record("session_id", session_id.as_str());
    }
    Ok(envelope)
}

/// Whether somebody may have begun with this delivery before and died before the announcement.
const fn may_be_half_done(delivery: &Delivery) -> bool {
    delivery.redelivered || delivery.attempt > 1
}
