//! Device flows (RFC 8628).

use std::time::Duration;

use larkauth_models::Timestamp;

use super::ledger::Ledger;

/// One device flow.
pub(crate) struct Device {
    pub(crate) app_id: String,
    pub(crate) scope: String,
    pub(crate) expires_at: Timestamp,
    pub(crate) interval: Duration,
    pub(crate) last_poll: Option<Timestamp>,
    pub(crate) decision: Decision,
}

pub(crate) enum Decision {
    Pending,
    Granted { union_id: String, at: Timestamp },
    Denied,
    Used,
}

/// All device flows, by device code and by user code.
pub(crate) struct Devices {
    pub(crate) by_code: Ledger<Device>,
    pub(crate) codes: Ledger<String>,
}

impl Default for Devices {
    fn default() -> Self {
        Self { by_code: Ledger::new(10_000), codes: Ledger::new(10_000) }
    }
}
