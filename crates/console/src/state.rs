use std::sync::Arc;

use larkauth_auth::Context;
use larkauth_telemetry::Health;

use crate::{attempts::Attempts, host::Host};

/// The console of one gateway.
pub struct Console {
    pub(crate) context: Context,
    pub(crate) health: Health,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) attempts: Attempts,
}

impl Console {
    /// Shows what `context` can do and `health` reports to the keys that `host` knows.
    #[must_use]
    pub fn new(context: Context, health: Health, host: Arc<dyn Host>) -> Self {
        Self { context, health, host, attempts: Attempts::default() }
    }
}
