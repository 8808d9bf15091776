//! Following one session to its end.

use std::{process::ExitCode, time::Duration};

use larkauth_auth::Context;
use larkauth_models::{AuthSession, CardFace, FailureReason, SessionId, SessionState};
use tokio::time::Instant;

use crate::{exit, globals::operator, report};

/// Interval between two reads of the session.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Interval between two redraws of the progress line.
const REDRAW_INTERVAL: Duration = Duration::from_millis(250);
/// Time after which an unsent card suggests that no worker is running.
const SENT_WITHIN: Duration = Duration::from_secs(10);

/// Progress of a session, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The card is not sent within [`SENT_WITHIN`].
    NotSent,
    /// The card is in the chat.
    Sent,
    /// The person clicked; the consent page is open.
    Clicked,
}

/// Waits until the session has ended, at most `at_most`. Returns the session in its last state.
pub(crate) async fn until_end(
    context: &Context,
    id: SessionId,
    at_most: Duration,
    mut seen: impl FnMut(Step),
) -> anyhow::Result<AuthSession> {
    let started = Instant::now();
    let mut line = report::Progress::new();
    let mut last = None;
    loop {
        let session = context.session(&operator(), context.now(), id).await?;
        let waited = started.elapsed();
        for step in forward(&mut last, step_of(&session, waited)) {
            line.finish();
            seen(step);
        }
        if session.state.is_final() || waited >= at_most {
            line.finish();
            return Ok(session);
        }
        let what = match last {
            Some(Step::Clicked) => "waiting for the consent",
            Some(Step::Sent) => "waiting for a click on the card",
            Some(Step::NotSent) | None => "waiting for the card to be sent",
        };
        let next_look = Instant::now() + POLL_INTERVAL.min(at_most.saturating_sub(waited));
        while Instant::now() < next_look {
            line.wait(what, started.elapsed());
            tokio::time::sleep_until(next_look.min(Instant::now() + REDRAW_INTERVAL)).await;
        }
    }
}

/// Returns the steps since the last one, also those that passed between two looks. The card's face may turn back, the
/// reported steps do not.
fn forward(last: &mut Option<Step>, now: Option<Step>) -> Vec<Step> {
    let Some(step) = now.filter(|_| now > *last) else { return Vec::new() };
    let before = last.replace(step);
    let passed = [Step::Sent].into_iter().filter(|passed| before < Some(*passed) && *passed < step);
    passed.chain([step]).collect()
}

fn step_of(session: &AuthSession, waited: Duration) -> Option<Step> {
    match (session.card_face, &session.message_id) {
        (Some(CardFace::Processing), _) => Some(Step::Clicked),
        (_, Some(_)) => Some(Step::Sent),
        (_, None) if session.auth_method.has_card() && waited >= SENT_WITHIN => Some(Step::NotSent),
        (_, None) => None,
    }
}

/// Reports a step.
pub(crate) fn report_step(step: Step) {
    match step {
        Step::Sent => report::done("the card is in the chat", ""),
        Step::NotSent => {
            report::warn("the card is not sent yet; is `larkauth standalone` or an auth-worker running?");
        }
        Step::Clicked => report::done("they clicked", "the consent page is open"),
    }
}

/// Reports the end of a session, with the page that helps.
pub(crate) fn report_end(session: &AuthSession) {
    match session.state {
        SessionState::Completed => report::done("they authorized", "the token is stored"),
        SessionState::Rejected => report::wrong("they declined", "nothing is stored"),
        SessionState::Expired => {
            report::wrong("the person did not answer in time", "the session expired; send another card");
        }
        SessionState::Failed => {
            let reason = session.failure_reason.map_or("failed", FailureReason::as_str);
            report::wrong(&format!("it failed: {reason}"), "");
            if let Some(reason) = session.failure_reason {
                report::say(&format!("  {}", help(reason)));
            }
        }
        SessionState::Pending => {
            report::wrong("no answer so far", "the session stays open; follow it again with:");
            report::say(&format!("  larkauth session watch {}", session.id));
        }
    }
}

/// Returns 0 for an authorization and another code for every other end.
pub(crate) fn exit_code(session: &AuthSession) -> ExitCode {
    match session.state {
        SessionState::Completed => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::NOT_AUTHORIZED),
    }
}

/// Returns the cause of a failure and what to do about it.
pub(crate) const fn help(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::IdentityMismatch => {
            "Another person agreed than the one who was asked, and nothing was stored. Send another card, and have the person open it themselves."
        }
        FailureReason::CodeInvalid => {
            "Lark refused the code: it had expired or was used before. The red card offers to try again."
        }
        FailureReason::ExchangeInterrupted | FailureReason::ExchangeOutcomeUnknown => {
            "The exchange was interrupted, and a code works only once. The red card offers to try again."
        }
        FailureReason::UpstreamUnavailable => "Lark did not answer before the code expired. Try again later.",
        FailureReason::UserUnavailable => {
            "Lark does not permit this person to use the application: see docs/troubleshooting/bot-cannot-reach-person.md"
        }
        FailureReason::AppMisconfigured => {
            "Lark refuses the application's secret, permissions or redirect URI: `larkauth apps show` shows Lark's reason, `larkauth doctor` what to correct."
        }
        FailureReason::ServiceUnavailable => {
            "A part of larkauth was not available, so no card was sent or the code was not exchanged: `larkauth doctor` shows the state of the parts, `larkauth dead-letters list` what could not be handled. Send another card."
        }
        FailureReason::AppDisabled => {
            "The application is switched off here: `larkauth apps enable` switches it on, then send another card."
        }
        FailureReason::CardUndeliverable => {
            "The bot cannot write to this person: see docs/troubleshooting/bot-cannot-reach-person.md"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Step::*, forward};

    #[test]
    fn forward_returns_later_steps_and_those_between() {
        let mut last = None;
        let looks = [None, Some(NotSent), None, Some(Sent), Some(Sent), Some(Clicked), Some(Sent)];
        let reported: Vec<_> = looks.into_iter().flat_map(|now| forward(&mut last, now)).collect();
        assert_eq!(reported, [NotSent, Sent, Clicked]);
        assert_eq!(forward(&mut None, Some(Clicked)), [Sent, Clicked], "clicked between two looks");
        assert_eq!(forward(&mut Some(NotSent), Some(Clicked)), [Sent, Clicked]);
    }
}
