use std::collections::VecDeque;

use larkauth_contracts::topology::Queue;
use parking_lot::Mutex;

/// Largest number of remembered trials.
const MOST: usize = 256;

/// Redelivered messages that this process has begun to handle alone and not settled. When one of them is delivered once
/// more, a connection was lost and the process lives: the message has crashed nothing.
#[derive(Debug, Default)]
pub(super) struct Trials(Mutex<VecDeque<(Queue, String)>>);

impl Trials {
    /// Remembers a trial that begins.
    pub(super) fn begin(&self, queue: Queue, id: &str) {
        let mut trials = self.0.lock();
        trials.retain(|(of, began)| (*of, began.as_str()) != (queue, id));
        if trials.len() == MOST {
            trials.pop_front();
        }
        trials.push_back((queue, id.to_owned()));
    }

    /// Forgets a trial. `true` when this process had begun it.
    pub(super) fn end(&self, queue: Queue, id: &str) -> bool {
        let mut trials = self.0.lock();
        let before = trials.len();
        trials.retain(|(of, began)| (*of, began.as_str()) != (queue, id));
        trials.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_beyond_the_bound_forget_the_oldest() {
        let trials = Trials::default();
        for n in 0..=MOST {
            trials.begin(Queue::Invitations, &n.to_string());
        }
        assert!(!trials.end(Queue::Invitations, "0"));
        assert!(!trials.end(Queue::CardActions, "1"));
        assert!(trials.end(Queue::Invitations, "1"));
        assert!(!trials.end(Queue::Invitations, "1"));
    }
}
