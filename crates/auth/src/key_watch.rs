use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Most keys of which it is kept when they were reported.
const MAX_REPORTED: usize = 100;

/// Which encryption keys the stored values may need and this process does not have, as it was seen last; and when this process
/// noted its own.
#[derive(Default)]
pub(crate) struct KeyWatch(Mutex<State>);

#[derive(Default)]
struct State {
    seen: Option<(Instant, Arc<[String]>)>,
    noted: Option<Instant>,
    reported: BTreeMap<String, Instant>,
}

impl KeyWatch {
    /// Returns what was seen within the last `ttl`.
    pub(crate) fn recent(&self, ttl: Duration) -> Option<Arc<[String]>> {
        let seen = self.0.lock().seen.clone();
        seen.filter(|(at, _)| at.elapsed() < ttl).map(|(_, missing)| missing)
    }

    /// Notes the missing keys.
    pub(crate) fn see(&self, missing: Arc<[String]>) {
        self.0.lock().seen = Some((Instant::now(), missing));
    }

    /// Remembers that the key of this process is noted in the database.
    pub(crate) fn note(&self) {
        self.0.lock().noted = Some(Instant::now());
    }

    /// Returns whether the key was noted within the last `ttl`.
    pub(crate) fn is_noted(&self, ttl: Duration) -> bool {
        self.0.lock().noted.is_some_and(|at| at.elapsed() < ttl)
    }

    /// Returns whether a value that a key does not open is to be reported: once in an interval for each key.
    pub(crate) fn is_to_report(&self, key_id: &str, interval: Duration) -> bool {
        let reported = &mut self.0.lock().reported;
        reported.retain(|_, at| at.elapsed() < interval);
        if reported.contains_key(key_id) || reported.len() >= MAX_REPORTED {
            return false;
        }
        reported.insert(key_id.to_owned(), Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn report_once_in_an_interval_and_key() {
        let (watch, minute) = (KeyWatch::default(), Duration::from_secs(60));
        assert!(watch.is_to_report("old", minute) && !watch.is_to_report("old", minute));
        assert!(watch.is_to_report("older", minute));
        tokio::time::advance(minute).await;
        assert!(watch.is_to_report("old", minute));
    }

    #[tokio::test(start_paused = true)]
    async fn recent_until_ttl() {
        let (watch, ttl) = (KeyWatch::default(), Duration::from_secs(10));
        assert_eq!(watch.recent(ttl), None);
        watch.see(Arc::from(["old".to_owned()]));
        assert_eq!(watch.recent(ttl).unwrap()[..], ["old".to_owned()]);
        tokio::time::advance(ttl).await;
        assert_eq!(watch.recent(ttl), None);
    }
}
