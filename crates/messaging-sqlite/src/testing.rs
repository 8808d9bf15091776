//! SQLite files that a test creates and removes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use larkauth_messaging::{
    Bus, RetryPolicy,
    testing::{TestBed, eventually, fast_policy},
};
use larkauth_telemetry::Metrics;
use tempfile::TempDir;

use crate::{bus::EmbeddedBus, options::EmbeddedOptions};

/// A SQLite file of its own in a temporary folder, migrated, removed with this value. [`TestFile::teardown`] asserts that
/// its queues are empty.
#[derive(Debug)]
pub struct TestFile {
    folder: TempDir,
    policy: RetryPolicy,
    lease: Duration,
}

impl TestFile {
    /// Creates one, with the delays and limits of production.
    ///
    /// # Panics
    /// When the file cannot be created.
    pub async fn create() -> Self {
        Self::with(RetryPolicy::default(), Duration::from_secs(10)).await
    }

    /// Creates one, with delays of 50 to 200 ms, 4 attempts, a crash limit of 2 and leases of one second.
    ///
    /// # Panics
    /// When the file cannot be created.
    pub async fn fast() -> Self {
        Self::with(fast_policy(), Duration::from_secs(1)).await
    }

    async fn with(policy: RetryPolicy, lease: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Self { folder, policy, lease };
        EmbeddedBus::migrate(&file.path()).await.unwrap_or_else(|error| panic!("{error}"));
        file
    }

    /// Returns the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("larkauth.db")
    }

    /// Returns options for a bus in this file.
    ///
    /// # Panics
    /// When metrics cannot be registered.
    #[must_use]
    pub fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            lease: self.lease,
            retry: self.policy.clone(),
            // Generous, since tests share the machine.
            publish_deadline: Duration::from_secs(10),
            ..EmbeddedOptions::new(self.path(), Metrics::new().expect("fresh metrics"))
        }
    }

    /// Opens a bus in this file.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub async fn bus(&self) -> Arc<dyn Bus> {
        let bus = EmbeddedBus::open(self.options()).await.unwrap_or_else(|error| panic!("{error}"));
        Arc::new(bus)
    }

    /// Removes it.
    ///
    /// # Panics
    /// When a message is left in a work queue or in the dead letters.
    pub async fn teardown(self) {
        let bus = self.bus().await;
        // A test without a consumer of the notices leaves them.
        for queue in Queue::ALL.iter().filter(|queue| **queue != Queue::DeadLetterNotices) {
            let what = format!("{queue} is empty");
            eventually(&what, || async { bus.depth(*queue).await == Ok(0) }).await;
        }
        eventually("no dead letter is left", || async { bus.dead_letter_depth().await == Ok(0) }).await;
        bus.close().await;
    }
}

#[async_trait]
impl TestBed for TestFile {
    async fn bus(&self) -> Arc<dyn Bus> {
        Self::bus(self).await
    }
    fn policy(&self) -> &RetryPolicy {
        &self.policy
    }
    async fn teardown(self) {
        Self::teardown(self).await;
    }
}
