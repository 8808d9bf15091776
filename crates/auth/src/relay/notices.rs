use std::collections::HashMap;

use chrono::TimeDelta;
use larkauth_models::{AppId, Timestamp};
use parking_lot::Mutex;

/// Time between two lines of one kind about one application: an hour. A busy bot's events would flood the log.
const INTERVAL: TimeDelta = TimeDelta::hours(1);

/// When each line was last written, by application. Bounded by the registered applications and the kinds of lines.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<HashMap<(AppId, &'static str), Timestamp>>);

impl Notices {
    /// Returns whether the line is due, and counts it as written then.
    pub(super) fn is_due(&self, app_id: &AppId, kind: &'static str, now: Timestamp) -> bool {
        let mut written = self.0.lock();
        let key = (app_id.clone(), kind);
        let is_due = written.get(&key).is_none_or(|last| now - *last >= INTERVAL);
        if is_due {
            written.insert(key, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notice_is_due_once_an_hour_per_application_and_kind() {
        let notices = Notices::default();
        let app = |id| AppId::new(id).unwrap();
        let (one, other) = (app("cli_0123456789abcdef"), app("cli_fedcba9876543210"));
        let start = Timestamp::UNIX_EPOCH;
        assert!(notices.is_due(&one, "nowhere", start) && !notices.is_due(&one, "nowhere", start));
        assert!(notices.is_due(&other, "nowhere", start) && notices.is_due(&one, "failed", start));
        assert!(!notices.is_due(&one, "nowhere", start + TimeDelta::minutes(59)));
        assert!(notices.is_due(&one, "nowhere", start + INTERVAL));
    }
}
