use std::{path::PathBuf, sync::Arc, time::Duration};

use larkauth_messaging::{
    RetryPolicy,
    backend::{MAX_BYTES, MAX_LENGTH},
};
use larkauth_models::{Clock, Entropy, OsEntropy, SystemClock};
use larkauth_telemetry::Metrics;

use crate::publishing::Capacity;

/// Options of a bus inside a SQLite file. Start with [`EmbeddedOptions::new`].
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The database file; may be the store's.
    pub path: PathBuf,
    /// Deadline of one publish, from the call to the confirm, and of one read; 2 s.
    pub publish_deadline: Duration,
    /// Time after which a crashed process's deliveries go to another consumer; 10 s, at least 100 ms. Renewed after a
    /// third of it while a handler runs, so that it may be shorter than a handler's run.
    pub lease: Duration,
    /// Largest number of messages in a queue or in the dead letters; a million.
    pub max_length: u32,
    /// Largest size of the bodies in a queue or in the dead letters, in bytes; 1 GiB.
    pub max_bytes: i64,
    /// Largest number of pending replies; further requests are published without a reply address. 4096.
    pub max_pending_replies: usize,
    /// Delays and limits; those of the contract by default. Waits that are no tier are kept exactly.
    pub retry: RetryPolicy,
    /// Metrics of the bus.
    pub metrics: Metrics,
    /// For correlation ids and leases.
    pub entropy: Arc<dyn Entropy>,
    /// For delays and leases, which other processes on the file compare with their own clock.
    pub clock: Arc<dyn Clock>,
}

impl EmbeddedOptions {
    /// Returns the defaults for this file.
    pub fn new(path: impl Into<PathBuf>, metrics: Metrics) -> Self {
        Self {
            path: path.into(),
            publish_deadline: Duration::from_secs(2),
            lease: Duration::from_secs(10),
            max_length: MAX_LENGTH,
            max_bytes: MAX_BYTES,
            max_pending_replies: 4096,
            retry: RetryPolicy::default(),
            metrics,
            entropy: Arc::new(OsEntropy),
            clock: Arc::new(SystemClock),
        }
    }

    /// Returns what a place holds at most.
    pub(crate) const fn capacity(&self) -> Capacity {
        Capacity { messages: self.max_length, bytes: self.max_bytes }
    }
}
