use larkauth_models::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::policy::Policy;

/// A step of an exchange that the end of the delivery must not cut off.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The code goes to Lark and a pair comes back. Not begun when too little time is left.
    Exchange,
    /// Lark says who consented.
    Identity,
    /// The pair is stored.
    Commit,
}

/// The time of one delivery. Each step may take all that is left, except for what the later steps need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    exchange: Instant,
    identity: Instant,
    commit: Instant,
}

impl Deadline {
    /// Starts with the delivery.
    pub(crate) fn start(policy: &Policy) -> Self {
        let commit = Instant::now() + policy.handler_deadline - policy.announce_reserve;
        let identity = commit - policy.commit_reserve;
        Self { exchange: identity - policy.identity_reserve, identity, commit }
    }

    /// Returns when a step must have ended.
    pub(super) const fn end_of(self, step: Step) -> Instant {
        match step {
            Step::Exchange => self.exchange,
            Step::Identity => self.identity,
            Step::Commit => self.commit,
        }
    }

    /// Runs a step; `None` when its time is over.
    pub(super) async fn within<T>(self, step: Step, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.end_of(step), work).await.ok()
    }
}

/// What is known of a delivery that carries a click or a code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// When the gateway received the click or the redirect.
    pub(crate) at: Timestamp,
    /// An earlier attempt may have begun with it, or even sent the code.
    pub(crate) may_be_repeated: bool,
    /// The time for this attempt.
    pub(crate) deadline: Deadline,
}
