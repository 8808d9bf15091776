use larkauth_models::{Backoff, Entropy};
use tokio::time::Instant;

/// Repeats a call while its error is transient and the next attempt would begin before `until`.
pub(super) async fn retry_transient<T, E, F: Future<Output = Result<T, E>>>(
    mut backoff: Backoff,
    entropy: &dyn Entropy,
    until: Instant,
    call: impl Fn() -> F,
    is_transient: impl Fn(&E) -> bool,
) -> Result<T, E> {
    loop {
        match call().await {
            Err(error) if is_transient(&error) => {
                let pause = backoff.next(entropy);
                if Instant::now() + pause >= until {
                    return Err(error);
                }
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
}
