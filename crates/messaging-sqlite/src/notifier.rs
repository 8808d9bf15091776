//! Notifications between the buses of one process on one file: a change of a queue wakes the consumers of every bus, and
//! replies reach their request. Between processes there is the file alone.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Weak},
};

use bytes::Bytes;
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{ReplyAddress, backend::Replies};
use parking_lot::Mutex;
use tokio::sync::watch;

static NOTIFIERS: LazyLock<Mutex<HashMap<PathBuf, Weak<Notifier>>>> = LazyLock::new(Mutex::default);

/// Shared by the buses of this process on one file.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    changes: Mutex<BTreeMap<Queue, watch::Sender<()>>>,
    /// Held while a message is handled alone: one in the process at a time.
    pub(crate) alone: tokio::sync::Mutex<()>,
    replies: Mutex<HashMap<String, Weak<Replies>>>,
}

impl Notifier {
    /// Returns the notifier of a file. The path is canonical.
    pub(crate) fn of(path: &Path) -> Arc<Self> {
        let mut notifiers = NOTIFIERS.lock();
        if let Some(notifier) = notifiers.get(path).and_then(Weak::upgrade) {
            return notifier;
        }
        notifiers.retain(|_, notifier| notifier.strong_count() > 0);
        let notifier = Arc::new(Self::default());
        notifiers.insert(path.to_owned(), Arc::downgrade(&notifier));
        notifier
    }

    /// Wakes the consumers of a queue after a change.
    pub(crate) fn wake(&self, queue: Queue) {
        if let Some(changes) = self.changes.lock().get(&queue) {
            changes.send_replace(());
        }
    }

    /// Returns a receiver of the changes of a queue.
    pub(crate) fn changes(&self, queue: Queue) -> watch::Receiver<()> {
        self.changes.lock().entry(queue).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Registers a bus for its replies.
    pub(crate) fn join(&self, bus: &Arc<Replies>) {
        let mut replies = self.replies.lock();
        replies.retain(|_, bus| bus.strong_count() > 0);
        replies.insert(bus.address().to_owned(), Arc::downgrade(bus));
    }

    /// Passes a reply to the bus that sent the request, if it is in this process.
    pub(crate) fn reply(&self, address: &ReplyAddress, body: Bytes) {
        let bus = self.replies.lock().get(&address.reply_to).cloned();
        match bus.and_then(|bus| bus.upgrade()) {
            Some(replies) => replies.deliver(Some(&address.correlation_id), body),
            None => tracing::debug!("a reply is dropped: the caller is gone or in another process"),
        }
    }
}
