use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_contracts::topology::Queue;
use larkauth_telemetry::Metrics;
use tempfile::TempDir;

use super::{eventually, fast_policy};
use crate::{Bus, EmbeddedBus, EmbeddedOptions, RetryPolicy, conformance::TestBed};

/// An SQLite file of its own, migrated. Gone when dropped; [`TestFile::teardown`] looks before whether anything was left
/// over.
#[derive(Debug)]
pub struct TestFile {
    folder: TempDir,
    policy: RetryPolicy,
    lease: Duration,
}

impl TestFile {
    /// With the delays and limits of production.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub async fn create() -> Self {
        Self::with(RetryPolicy::default(), Duration::from_secs(10)).await
    }

    /// With delays of 50 to 200 ms, 4 attempts, a delivery limit of 2 and leases of one second.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub async fn fast() -> Self {
        Self::with(fast_policy(), Duration::from_secs(1)).await
    }

    async fn with(policy: RetryPolicy, lease: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Self { folder, policy, lease };
        EmbeddedBus::migrate(&file.path()).await.unwrap_or_else(|error| panic!("{error}"));
        file
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("larkauth.db")
    }

    /// Options for a bus in this file, to change before opening.
    ///
    /// # Panics
    /// When metrics cannot be registered.
    #[must_use]
    pub fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            lease: self.lease,
            retry: self.policy.clone(),
            // Tests share two cores.
            publish_deadline: Duration::from_secs(10),
            ..EmbeddedOptions::new(self.path(), Metrics::new().expect("fresh metrics"))
        }
    }

    /// A bus in this file.
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
        for queue in Queue::ALL {
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
