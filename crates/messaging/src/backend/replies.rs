use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Requests that expect a reply, by correlation id. Bounded; a reply that no caller awaits is dropped.
#[derive(Debug)]
pub struct Replies {
    address: String,
    waiting: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
    limit: usize,
}

impl Replies {
    /// Expects at most `limit` replies at a time, at this address.
    #[must_use]
    pub fn new(address: String, limit: usize) -> Self {
        Self { address, waiting: Mutex::default(), limit }
    }

    /// Returns where replies are sent: a queue's name, or what else identifies this process on its bus.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Expects a reply. `false` when the limit is reached.
    pub fn expect(&self, correlation_id: &str, waiter: oneshot::Sender<Bytes>) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.limit {
            // Abandoned entries are removed here only: once in `limit` requests, so that the cost is spread.
            waiting.retain(|_, waiter| !waiter.is_closed());
        }
        let room = waiting.len() < self.limit;
        if room {
            waiting.insert(correlation_id.to_owned(), waiter);
        }
        room
    }

    /// Removes the entry of a request that was not sent.
    pub fn forget(&self, correlation_id: &str) {
        self.waiting.lock().remove(correlation_id);
    }

    /// Ends every wait: no reply can arrive any more.
    pub fn forget_all(&self) {
        self.waiting.lock().clear();
    }

    /// Passes a reply to the request with this correlation id.
    pub fn deliver(&self, correlation_id: Option<&str>, body: Bytes) {
        let waiter = correlation_id.and_then(|id| self.waiting.lock().remove(id));
        if waiter.is_none_or(|waiter| waiter.send(body).is_err()) {
            tracing::debug!("a reply arrived that no caller awaits");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expect_at_the_limit_is_refused_until_abandoned_entries_are_removed() {
        let replies = Replies::new("q".to_owned(), 2);
        let expect = |id: &str| {
            let (sender, receiver) = oneshot::channel();
            replies.expect(id, sender).then_some(receiver)
        };
        let (mut first, second) = (expect("1").unwrap(), expect("2").unwrap());
        assert!(expect("3").is_none());
        drop(second);
        let mut third = expect("3").unwrap();
        replies.deliver(Some("1"), Bytes::from_static(b"one"));
        replies.deliver(Some("2"), Bytes::from_static(b"late"));
        replies.deliver(None, Bytes::from_static(b"without an id"));
        assert_eq!(first.try_recv().unwrap(), "one");
        replies.forget("3");
        assert!(matches!(third.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        let mut fourth = expect("4").unwrap();
        replies.forget_all();
        assert!(matches!(fourth.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }
}
