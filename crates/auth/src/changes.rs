//! Following the changes that the database announces.

use std::time::Duration;

use larkauth_storage::{ChangeFeed, StorageError};
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// How often what has ended is dropped: 1 s.
const SWEEP: Duration = Duration::from_secs(1);

impl Context {
    /// Follows the changes that the database announces until `stopping`, so that what is kept in memory is served for longer
    /// than [`Policy::read_staleness`](crate::Policy::read_staleness). One task of a process does so.
    pub async fn follow_changes(&self, stopping: CancellationToken) {
        let following = async {
            loop {
                match self.store.change_feed().await {
                    Ok(Some(feed)) => self.follow(feed).await,
                    Ok(None) => {
                        tracing::info!(
                            "auth.changes.follow: this way to the database announces no changes, tokens are read from it every second"
                        );
                        return std::future::pending().await;
                    }
                    Err(error) => tracing::debug!(%error, "auth.changes.follow: not opened"),
                }
                self.metrics.changes_followed(false);
                sleep(self.policy.read_staleness).await;
            }
        };
        let sweeping = async {
            let mut ticks = interval(SWEEP);
            loop {
                ticks.tick().await;
                self.reads.sweep();
            }
        };
        let both = async {
            tokio::join!(following, sweeping);
        };
        stopping.run_until_cancelled(both).await;
        self.metrics.changes_followed(false);
        self.reads.clear();
    }

    /// Applies the changes of a feed until it fails. A failure that follows another one is not worth a line.
    async fn follow(&self, mut feed: Box<dyn ChangeFeed>) {
        // What was read before the feed was opened may have changed before, too.
        self.reads.clear();
        let mut was_followed = false;
        let error = loop {
            let asked_at = Instant::now();
            // Later than this its proof would be worth nothing.
            match timeout(self.policy.read_staleness, feed.next()).await {
                Ok(Ok(changes)) => {
                    for change in &changes {
                        self.reads.apply(change);
                    }
                    self.reads.extend(asked_at);
                    self.metrics.changes_followed(true);
                    was_followed = true;
                }
                Ok(Err(error)) => break error,
                Err(_) => {
                    let message = "no answer in time".to_owned();
                    break StorageError::Unavailable { during: "following changes", message };
                }
            }
            // Either way the next call looks.
            let _ = timeout(self.policy.read_poll, feed.arrived()).await;
        };
        if was_followed {
            tracing::warn!(%error, "auth.changes.follow: no changes arrive, tokens are read from the database every second");
        } else {
            tracing::debug!(%error, "auth.changes.follow: no changes arrive");
        }
    }
}
