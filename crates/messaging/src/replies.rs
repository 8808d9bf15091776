use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::sync::oneshot;

/// Who waits for which answer. Bounded; an answer that nobody waits for any more is dropped.
#[derive(Debug)]
pub(crate) struct Replies {
    /// Where answers come to: a queue's name, or whatever else its bus calls it.
    pub(crate) address: String,
    waiting: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
    limit: usize,
}

impl Replies {
    pub(crate) fn new(address: String, limit: usize) -> Self {
        Self { address, waiting: Mutex::default(), limit }
    }

    /// Expects an answer. `false` when too many are expected already.
    pub(crate) fn expect(&self, correlation_id: &str, waiter: oneshot::Sender<Bytes>) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.limit {
            // Only now: sweeping once in `limit` requests costs nothing.
            waiting.retain(|_, waiter| !waiter.is_closed());
        }
        let room = waiting.len() < self.limit;
        if room {
            waiting.insert(correlation_id.to_owned(), waiter);
        }
        room
    }

    /// The request was not sent after all.
    pub(crate) fn forget(&self, correlation_id: &str) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(correlation_id);
    }

    /// No answer will come any more; nobody waits for one.
    pub(crate) fn forget_all(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Hands an answer to whoever waits for it.
    pub(crate) fn deliver(&self, correlation_id: Option<&str>, body: Bytes) {
        let waiter = correlation_id
            .and_then(|id| self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(id));
        if waiter.is_none_or(|waiter| waiter.send(body).is_err()) {
            tracing::debug!("an answer came that nobody waits for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_bounded_and_the_forgotten_make_room() {
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
        replies.deliver(None, Bytes::from_static(b"whose?"));
        assert_eq!(first.try_recv().unwrap(), "one");
        replies.forget("3");
        assert!(matches!(third.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        let mut fourth = expect("4").unwrap();
        replies.forget_all();
        assert!(matches!(fourth.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }
}
