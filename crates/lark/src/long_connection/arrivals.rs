use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Tracks which answers have arrived at the server.
///
/// A written answer may still be in a buffer of this machine when the connection breaks. A ping follows every answer,
/// and its pong proves that everything written before the ping has arrived. A missing pong leaves an answer in doubt. A
/// pong without a ping is not counted.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<Pings>);

#[derive(Default)]
struct Pings {
    sent: u64,
    returned: u64,
    /// Unconfirmed answers, each with the number of the ping that follows the answer.
    unconfirmed: Vec<(u64, oneshot::Sender<()>)>,
    is_over: bool,
}

impl Arrivals {
    /// Records a written answer. `arrived` is notified when the arrival is proven, and dropped when no proof can come.
    pub(super) fn answer_written(&self, arrived: oneshot::Sender<()>) {
        self.with(|pings| {
            // Their handlers have stopped waiting.
            pings.unconfirmed.retain(|(_, arrived)| !arrived.is_closed());
            if !pings.is_over {
                pings.unconfirmed.push((pings.sent + 1, arrived));
            }
        });
    }

    /// Records a written ping.
    pub(super) fn ping_written(&self) {
        self.with(|pings| pings.sent += 1);
    }

    /// Records a pong, and confirms the answers that precede its ping.
    pub(super) fn pong_read(&self) {
        self.with(|pings| {
            pings.returned = (pings.returned + 1).min(pings.sent);
            let returned = pings.returned;
            for (_, arrived) in pings.unconfirmed.extract_if(.., |(ping, _)| *ping <= returned) {
                // The handler may have stopped waiting.
                let _ = arrived.send(());
            }
        });
    }

    /// Drops all unconfirmed answers. Called when reading has ended, so that no pong can arrive any more.
    pub(super) fn end(&self) {
        self.with(|pings| {
            pings.is_over = true;
            pings.unconfirmed.clear();
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Pings) -> T) -> T {
        change(&mut self.0.lock())
    }
}
