use larkauth_contracts::message::{Envelope, Message};
use larkauth_messaging::Delivery;

use super::error::HandlerError;
use crate::{
    consent::deadline::{Deadline, Received},
    policy::Policy,
};

/// Decodes a delivery, and records its identifiers on the span.
pub(super) fn decode<T: Message>(delivery: &Delivery) -> Result<Envelope<T>, HandlerError> {
    let envelope = Envelope::<T>::decode(&delivery.body)?;
    let span = tracing::Span::current();
    span.record("app_id", tracing::field::display(&envelope.appid));
    if let Some(session_id) = &envelope.subject {
        span.record("session_id", session_id.as_str());
    }
    Ok(envelope)
}

/// Returns whether an earlier attempt may have sent what is in this delivery, and got a refusal after which it is sent again. A
/// delivery that came back from a worker that crashed is still the same attempt: what that worker sent is marked as sent.
const fn may_be_repeated(delivery: &Delivery) -> bool {
    delivery.attempt > 1
}

/// Describes a delivery whose handling starts now.
pub(super) fn received<T>(policy: &Policy, delivery: &Delivery, envelope: &Envelope<T>) -> Received {
    Received {
        at: envelope.time,
        may_be_repeated: may_be_repeated(delivery),
        deadline: Deadline::start(policy),
    }
}
