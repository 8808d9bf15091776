use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use larkauth_models::{Actor, AppId, OpenId};
use larkauth_storage::{AuditEntry, Store};
use larkauth_telemetry::Metrics;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{audit_log::log, audit_repeats::Repeats, policy::AuditTimings};

/// Records that wait for the database. Bounded: a read never waits for it, and a record that finds it full is counted.
pub(crate) struct AuditQueue {
    waiting: Mutex<VecDeque<AuditEntry>>,
    /// Records that are still counting. They wait with the others at the end of the interval.
    repeats: Mutex<Repeats>,
    /// There are enough records for a whole batch.
    is_batch: Notify,
    timings: AuditTimings,
    metrics: Metrics,
    /// Records dropped since the last line about them.
    dropped: AtomicU64,
    is_failing: AtomicBool,
}

impl AuditQueue {
    pub(crate) fn new(timings: AuditTimings, metrics: Metrics) -> Self {
        Self {
            waiting: Mutex::default(),
            repeats: Mutex::default(),
            is_batch: Notify::new(),
            timings,
            metrics,
            dropped: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Adds a record, or counts it as dropped.
    pub(crate) fn push(&self, entry: AuditEntry) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.timings.queue {
            drop(waiting);
            self.lose(1);
            return;
        }
        waiting.push_back(entry);
        if waiting.len() >= self.timings.batch {
            self.is_batch.notify_one();
        }
    }

    /// Counts a read if there is the record of an equal one in this interval.
    pub(crate) fn count_repeat(&self, actor: &Actor, app_id: &AppId, open_id: &OpenId) -> bool {
        self.repeats.lock().count(actor, app_id, open_id)
    }

    /// Adds the record of a read that may be repeated.
    pub(crate) fn open(&self, entry: AuditEntry) {
        let entry = {
            let mut repeats = self.repeats.lock();
            if repeats.len() < self.timings.queue { repeats.open(entry) } else { Some(entry) }
        };
        if let Some(entry) = entry {
            self.push(entry);
        }
    }

    /// Closes the records that count. The number of one that was repeated is logged.
    fn close_repeats(&self) {
        let entries = self.repeats.lock().take();
        for entry in entries {
            if entry.count > 1 {
                log(&entry);
            }
            self.push(entry);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().len() + self.repeats.lock().len()
    }

    /// Waits until a batch is due: it is complete, or the interval has passed.
    pub(crate) async fn due(&self) {
        // Either way the queue is looked at.
        let _ = tokio::time::timeout(self.timings.interval, self.is_batch.notified()).await;
    }

    /// Writes what waits, batch by batch, until nothing is left or the store fails.
    pub(crate) async fn write(&self, store: &dyn Store) {
        self.close_repeats();
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return;
            }
            match store.append_audit(&batch).await {
                Ok(()) => self.recovered(),
                Err(error) if error.is_transient() => {
                    self.give_back(batch);
                    if !self.is_failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "auth.audit.write: the records wait, and are in the log");
                    }
                    return;
                }
                Err(_) => self.write_singly(store, batch).await,
            }
        }
    }

    /// Writes each record by itself, so that one that the store refuses takes no other with it.
    async fn write_singly(&self, store: &dyn Store, batch: Vec<AuditEntry>) {
        for entry in batch {
            if let Err(error) = store.append_audit(std::slice::from_ref(&entry)).await {
                tracing::error!(audit_id = %entry.id, %error, "auth.audit.write: this record is in the log only");
                self.lose(1);
            }
        }
    }

    fn take(&self) -> Vec<AuditEntry> {
        let mut waiting = self.waiting.lock();
        let length = self.timings.batch.min(waiting.len());
        waiting.drain(..length).collect()
    }

    /// Puts a batch back in front. Records beyond the bound are dropped.
    fn give_back(&self, batch: Vec<AuditEntry>) {
        let lost = {
            let mut waiting = self.waiting.lock();
            for entry in batch.into_iter().rev() {
                waiting.push_front(entry);
            }
            let lost = waiting.len().saturating_sub(self.timings.queue);
            waiting.truncate(self.timings.queue);
            lost
        };
        self.lose(lost as u64);
    }

    fn lose(&self, count: u64) {
        if count == 0 {
            return;
        }
        self.metrics.audit_records_dropped(count);
        if self.dropped.fetch_add(count, Ordering::Relaxed) == 0 {
            tracing::error!(
                "auth.audit.dropped: records do not reach the database, they are in the log only; the metric \
                 audit_dropped_total counts them"
            );
        }
    }

    fn recovered(&self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if self.is_failing.swap(false, Ordering::Relaxed) || dropped > 0 {
            tracing::warn!(dropped, "auth.audit.write: records reach the database again");
        }
    }
}
