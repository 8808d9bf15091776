use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// Which answers have arrived at the server.
///
/// An answer that was written may still be in a buffer of this machine when the line goes dead. So a ping follows every
/// answer: what comes back for it proves that everything before it arrived, too. A pong too few leaves an answer in
/// doubt; none is ever counted for a ping that was not sent.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<Pings>);

#[derive(Default)]
struct Pings {
    sent: u64,
    returned: u64,
    /// Answers, each with the number of the ping that follows it.
    doubtful: Vec<(u64, oneshot::Sender<()>)>,
    is_over: bool,
}

impl Arrivals {
    /// An answer was written; `arrived` is told when that is certain, and dropped when it never will be.
    pub(super) fn answer_written(&self, arrived: oneshot::Sender<()>) {
        self.with(|pings| {
            // Those whose handler has stopped waiting are in nobody's interest.
            pings.doubtful.retain(|(_, arrived)| !arrived.is_closed());
            if !pings.is_over {
                pings.doubtful.push((pings.sent + 1, arrived));
            }
        });
    }

    pub(super) fn ping_written(&self) {
        self.with(|pings| pings.sent += 1);
    }

    pub(super) fn pong_read(&self) {
        self.with(|pings| {
            pings.returned = (pings.returned + 1).min(pings.sent);
            let returned = pings.returned;
            for (_, arrived) in pings.doubtful.extract_if(.., |(ping, _)| *ping <= returned) {
                // The handler may have stopped waiting.
                let _ = arrived.send(());
            }
        });
    }

    /// Nothing is read any more: what is in doubt remains so.
    pub(super) fn end(&self) {
        self.with(|pings| {
            pings.is_over = true;
            pings.doubtful.clear();
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Pings) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
