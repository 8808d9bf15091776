//! The signals that end a process in order.

use std::fs;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// State of this process on Linux.
const STATUS: &str = "/proc/self/status";
/// Number of SIGHUP, on every Unix.
const HANGUP: u32 = 1;

/// Listens for SIGTERM, SIGINT and SIGHUP from now on, and resolves on the first. A command calls it before it says that it
/// is ready, so that a signal after that ends it in order. SIGHUP stays ignored where the process was started so (`nohup`).
pub fn shutdown_signal() -> impl Future<Output = ()> + Send {
    let listen = |kind| {
        signal(kind).inspect_err(|error| tracing::error!(%error, "a signal cannot be listened to")).ok()
    };
    let (terminate, interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    let hangup = if ignores_hangup() { None } else { listen(SignalKind::hangup()) };
    async move {
        tokio::select! {
            () = first(terminate) => {}
            () = first(interrupt) => {}
            () = first(hangup) => {}
        }
    }
}

async fn first(signals: Option<Signal>) {
    match signals {
        Some(mut signals) => {
            signals.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Returns whether SIGHUP is ignored. Where the system does not tell, it is left as it is, too.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string(STATUS).unwrap_or_default();
    ignored(&status).is_none_or(|mask| mask & (1 << (HANGUP - 1)) != 0)
}

/// Returns the mask of ignored signals.
fn ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_reads_the_mask() {
        assert_eq!(ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), Some(0x1001));
        assert_eq!(ignored("Name:\tx\n"), None);
    }
}
