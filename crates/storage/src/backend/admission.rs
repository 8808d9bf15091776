//! Whether a person is asked again whose token is missing: the same rule for every database.

use std::time::Duration;

use larkauth_models::{AuthMethod, FailureReason, SessionId, Timestamp};
use uuid::Uuid;

use crate::{Created, InvitationPause, NewSession};

/// Most sessions of a person that the rule looks at. The pause has reached its longest before.
pub const PAST: u32 = 12;

/// A session of the person, as the rule sees it.
pub struct PastRow {
    pub session_id: Uuid,
    pub auth_method: String,
    pub state: String,
    pub failure_reason: Option<String>,
    pub scopes: Vec<String>,
    pub expires_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// Decides from the person's sessions, the newest first. `None`: the session is created.
#[must_use]
pub fn admission(past: &[PastRow], new: &NewSession, pause: InvitationPause) -> Option<Created> {
    let now = new.created_at;
    let mut unsuccessful = 0_u32;
    let mut last = None;
    let mut consented = false;
    for row in past {
        let end = match (row.state.as_str(), row.ended_at) {
            ("pending", _) if row.expires_at > now => {
                if asks_for_all(row, new) {
                    return Some(Created::Open(SessionId(row.session_id)));
                }
                continue;
            }
            // What was in vain before the last consent is forgotten.
            ("completed", _) if new.card.reauthorize.is_none() => break,
            // An older card may still be open, and whom larkauth asks by itself has never two.
            ("completed", _) => {
                consented = true;
                continue;
            }
            _ if consented => continue,
            // It expires with the next run of the job.
            ("pending", _) => row.expires_at,
            ("failed", _) if !is_of_person(row) => continue,
            (_, Some(ended_at)) => ended_at,
            (_, None) => continue,
        };
        unsuccessful += 1;
        last = last.max(Some(end));
    }
    let doubled = 2_u32.saturating_pow(unsuccessful.checked_sub(1)?);
    let until = last? + pause.first.saturating_mul(doubled).min(pause.longest);
    let retry_after = (until - now).to_std().ok().filter(|left| *left > Duration::ZERO)?;
    Some(Created::Paused { retry_after })
}

fn asks_for_all(row: &PastRow, new: &NewSession) -> bool {
    // Whom larkauth asks by itself has never two open cards.
    row.auth_method.parse().is_ok_and(AuthMethod::has_card)
        && (new.card.reauthorize.is_some() || new.scopes.iter().all(|scope| row.scopes.contains(scope)))
}

fn is_of_person(row: &PastRow) -> bool {
    row.failure_reason.as_deref().is_some_and(|reason| reason.parse().is_ok_and(FailureReason::is_of_person))
}
