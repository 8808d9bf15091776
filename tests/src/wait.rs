use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

/// Maximum duration of everything that a test waits for. Long enough for two busy cores.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Calls `ask` repeatedly until it returns a value.
///
/// # Errors
/// When `ask` fails, or returns no value within the deadline.
pub async fn eventually<T>(
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let until = Instant::now() + deadline;
    loop {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        ensure!(Instant::now() < until, "nothing within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
