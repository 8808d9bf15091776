use std::time::Duration;

use larkauth_models::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::policy::Policy;

/// A step of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The code goes to Lark and a pair comes back. Not begun when too little time is left; the end leaves time for the
    /// escrow of the pair, which nothing may cut off.
    Exchange,
    /// Lark says who consented.
    Identity,
    /// The pair is stored.
    Commit,
}

/// The time of one delivery or resumption. Each step may take all that is left, except for what the steps after it need
/// that cannot be resumed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    exchange: Instant,
    identity: Instant,
    commit: Instant,
}

impl Deadline {
    /// Starts with the delivery.
    pub(crate) fn start(policy: &Policy) -> Self {
        Self::after(policy.handler_deadline, policy)
    }

    /// Starts with the resumption of an exchange.
    pub(super) fn resume(policy: &Policy) -> Self {
        Self::after(policy.resume_deadline, policy)
    }

    fn after(whole: Duration, policy: &Policy) -> Self {
        let commit = Instant::now() + whole - policy.announce_reserve;
        Self { exchange: commit - policy.escrow_reserve, identity: commit - policy.commit_reserve, commit }
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
    /// An earlier attempt may have sent the code, and Lark refused it then.
    pub(crate) may_be_repeated: bool,
    /// The time for this attempt.
    pub(crate) deadline: Deadline,
}
