//! Following one invitation to its end.

use std::{process::ExitCode, time::Duration};

use larkauth_auth::Context;
use larkauth_models::{AuthSession, CardFace, FailureReason, SessionId, SessionState};
use tokio::time::Instant;

use crate::{exit, report};

/// How often the session is looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How often the line on the terminal turns.
const TURN: Duration = Duration::from_millis(250);
/// A card that is not sent after so long has nobody who sends it.
const SENT_WITHIN: Duration = Duration::from_secs(10);

/// What has been seen of an invitation, in the order in which it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// It is taking long, and nobody has sent the card.
    NotSent,
    /// The card is in the chat.
    Sent,
    /// The person clicked; the consent page is open.
    Clicked,
}

/// Waits until the session has ended, at most so long, and gives it as it is then.
pub(crate) async fn to_the_end(
    context: &Context,
    id: SessionId,
    at_most: Duration,
    mut seen: impl FnMut(Step),
) -> anyhow::Result<AuthSession> {
    let started = Instant::now();
    let mut line = report::Progress::new();
    let mut last = None;
    loop {
        let session = context.existing(id).await?;
        let waited = started.elapsed();
        if let Some(step) = forward(&mut last, step_of(&session, waited)) {
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
        let next_look = Instant::now() + EVERY.min(at_most.saturating_sub(waited));
        while Instant::now() < next_look {
            line.wait(what, started.elapsed());
            tokio::time::sleep_until(next_look.min(Instant::now() + TURN)).await;
        }
    }
}

/// The step when it is a new one. The card's face may turn back; the story does not.
fn forward(last: &mut Option<Step>, now: Option<Step>) -> Option<Step> {
    let step = now.filter(|_| now > *last)?;
    last.replace(step);
    Some(step)
}

fn step_of(session: &AuthSession, waited: Duration) -> Option<Step> {
    match (session.card_face, &session.message_id) {
        (Some(CardFace::Processing), _) => Some(Step::Clicked),
        (_, Some(_)) => Some(Step::Sent),
        (_, None) if session.auth_method.has_card() && waited >= SENT_WITHIN => Some(Step::NotSent),
        (_, None) => None,
    }
}

/// Says what has been seen.
pub(crate) fn tell(step: Step) {
    match step {
        Step::Sent => report::done("the card is in the chat", ""),
        Step::NotSent => {
            report::warn("the card is not sent yet; is `larkauth standalone` or an auth-worker running?");
        }
        Step::Clicked => report::done("they clicked", "the consent page is open"),
    }
}

/// Says how it ended, with the page that helps.
pub(crate) fn tell_end(session: &AuthSession) {
    match session.state {
        SessionState::Completed => report::done("they authorized", "the token is stored"),
        SessionState::Rejected => report::wrong("they declined", "nothing is stored"),
        SessionState::Expired => {
            report::wrong("nobody answered in time", "the invitation expired; send another one");
        }
        SessionState::Failed => {
            let reason = session.failure_reason.map_or("failed", FailureReason::as_str);
            report::wrong(&format!("it failed: {reason}"), "");
            if let Some(reason) = session.failure_reason {
                report::say(&format!("  {}", help(reason)));
            }
        }
        SessionState::Pending => {
            report::wrong("no answer so far", "the invitation stays open; look at it again with:");
            report::say(&format!("  larkauth session watch {}", session.id));
        }
    }
}

/// 0 for an authorization, another one for every other end.
pub(crate) fn exit_code(session: &AuthSession) -> ExitCode {
    match session.state {
        SessionState::Completed => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::NOT_AUTHORIZED),
    }
}

/// What to do about a failure.
pub(crate) const fn help(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::IdentityMismatch => {
            "Somebody else agreed than the person who was asked; nothing was stored. Ask again, and let them open it themselves."
        }
        FailureReason::CodeInvalid => {
            "Lark did not take the code: it was too old, or used before. The red card offers to try again."
        }
        FailureReason::ExchangeInterrupted | FailureReason::ExchangeOutcomeUnknown => {
            "The exchange was cut off half-way, and a code works once only. The red card offers to try again."
        }
        FailureReason::UpstreamUnavailable => {
            "Lark did not answer for longer than the code lived. Try again later."
        }
        FailureReason::UserUnavailable => {
            "Lark does not let this person use the application: see docs/troubleshooting/bot-cannot-reach-person.md"
        }
        FailureReason::AppMisconfigured => {
            "Lark refuses the application's secret, permissions or redirect URI: `larkauth apps show` says what it said, `larkauth doctor` what to mend."
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
    fn forward_of_earlier_step_returns_none() {
        let mut last = None;
        let looks = [None, Some(NotSent), None, Some(Sent), Some(Sent), Some(Clicked), Some(Sent)];
        let told: Vec<_> = looks.into_iter().filter_map(|now| forward(&mut last, now)).collect();
        assert_eq!(told, [NotSent, Sent, Clicked]);
    }
}
