//! What the buses of one process on one file share: whoever publishes in one of them wakes whoever consumes in another,
//! and answers find their way. Between processes the file itself is all there is.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use larkauth_contracts::topology::Queue;
use tokio::sync::watch;

use crate::{ReplyAddress, replies::Replies};

static NOTIFIERS: LazyLock<Mutex<HashMap<PathBuf, Weak<Notifier>>>> = LazyLock::new(Mutex::default);

/// Shared by the buses of this process on one file.
#[derive(Debug)]
pub(super) struct Notifier {
    changes: Mutex<BTreeMap<Queue, watch::Sender<()>>>,
    offices: Mutex<HashMap<String, Weak<Replies>>>,
}

impl Notifier {
    /// The one of this file. The path is canonical.
    pub(super) fn of(path: &Path) -> Arc<Self> {
        let mut notifiers = NOTIFIERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notifier) = notifiers.get(path).and_then(Weak::upgrade) {
            return notifier;
        }
        notifiers.retain(|_, notifier| notifier.strong_count() > 0);
        let notifier = Arc::new(Self { changes: Mutex::default(), offices: Mutex::default() });
        notifiers.insert(path.to_owned(), Arc::downgrade(&notifier));
        notifier
    }

    /// Something in this queue is another than before: look again.
    pub(super) fn wake(&self, queue: Queue) {
        if let Some(changes) = self.changes.lock().unwrap_or_else(PoisonError::into_inner).get(&queue) {
            changes.send_replace(());
        }
    }

    /// Changes whenever it is worth looking into the queue again.
    pub(super) fn changes(&self, queue: Queue) -> watch::Receiver<()> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.entry(queue).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Lets answers to this bus come to it.
    pub(super) fn join(&self, replies: &Arc<Replies>) {
        let mut offices = self.offices.lock().unwrap_or_else(PoisonError::into_inner);
        offices.retain(|_, replies| replies.strong_count() > 0);
        offices.insert(replies.address.clone(), Arc::downgrade(replies));
    }

    /// Hands over an answer, if whoever asked is in this process.
    pub(super) fn answer(&self, address: &ReplyAddress, body: Bytes) {
        let office =
            self.offices.lock().unwrap_or_else(PoisonError::into_inner).get(&address.reply_to).cloned();
        match office.and_then(|replies| replies.upgrade()) {
            Some(replies) => replies.deliver(Some(&address.correlation_id), body),
            None => tracing::debug!("an answer goes to nobody: whoever asked is gone or in another process"),
        }
    }
}
