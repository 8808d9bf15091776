use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bus, RetryPolicy};

/// An empty broker for one test.
#[async_trait]
pub trait TestBed: Send + Sync + Sized {
    /// Opens a new connection to it.
    async fn bus(&self) -> Arc<dyn Bus>;
    /// Returns its delays (well under a second) and limits (a few).
    fn policy(&self) -> &RetryPolicy;
    /// Asserts that it is empty, then removes it.
    async fn teardown(self);
}
