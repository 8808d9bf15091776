//! The deadline of a check.

use std::time::Duration;

/// Maximum duration of one check: long enough for a slow name lookup, short enough for a person who waits.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Returns what a check found. Fails when the check fails or exceeds [`TIMEOUT`].
pub(super) async fn with_deadline<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => anyhow::bail!("no answer within {} s", TIMEOUT.as_secs()),
    }
}
