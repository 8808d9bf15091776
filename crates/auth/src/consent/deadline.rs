use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// What one delivery may take. A handler that takes longer is cancelled and its delivery comes again; a process that
/// stops waits at least so long (`SHUTDOWN_GRACE_SECONDS`), and Kubernetes a little longer.
pub const HANDLER_DEADLINE: Duration = Duration::from_secs(24);

/// The least that Lark has to say who consented.
const CONSENTER: Duration = Duration::from_secs(4);
/// The least that the database has to take the tokens: one statement with its deadline, and a little.
const COMMIT: Duration = Duration::from_secs(6);
/// What is left for telling about it. If that is cut off, the next delivery does it.
const ANNOUNCE: Duration = Duration::from_secs(3);

/// A step of an exchange that must not be cut off by the end of the delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The code goes to Lark and a pair comes back; not begun when too little is left for it.
    Exchange,
    /// Lark says who consented.
    Consenter,
    /// The pair is stored.
    Commit,
}

/// The time of one delivery. Each step may take all that is left, but for what those after it need at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    until: Instant,
}

impl Budget {
    /// To be called when the delivery is taken up.
    pub(crate) fn begin() -> Self {
        Self { until: Instant::now() + HANDLER_DEADLINE }
    }

    /// When a step must have ended.
    pub(crate) fn end_of(self, step: Step) -> Instant {
        let kept = match step {
            Step::Exchange => CONSENTER + COMMIT + ANNOUNCE,
            Step::Consenter => COMMIT + ANNOUNCE,
            Step::Commit => ANNOUNCE,
        };
        self.until - kept
    }

    /// Cuts a step off when its time is over: nothing then.
    pub(crate) async fn within<T>(self, step: Step, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.end_of(step), work).await.ok()
    }
}
