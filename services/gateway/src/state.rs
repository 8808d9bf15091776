use std::sync::Arc;

use larkauth_auth::Context;
use larkauth_config::{HttpSettings, IpNet};
use larkauth_telemetry::Health;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{api_keys::ApiKeys, callbacks::Callbacks, unknown::Unknown, verifiers::Verifiers};

/// Most long polls that wait at once. Requests without `wait` need no place among them.
pub(crate) const LONG_POLLS: usize = 512;

/// The state that the HTTP handlers share.
pub(crate) struct AppState {
    pub(crate) context: Context,
    pub(crate) callbacks: Arc<Callbacks>,
    pub(crate) verifiers: Verifiers,
    pub(crate) api_keys: ApiKeys,
    /// Values of the OAuth `state` that belong to no session.
    pub(crate) unknown_states: Unknown,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// State of the parts of this process.
    pub(crate) health: Health,
    /// Ends long polls when the process stops.
    pub(crate) stopping: CancellationToken,
    /// Permits of long polls.
    pub(crate) long_polls: Semaphore,
}

impl AppState {
    pub(crate) fn new(
        context: Context,
        http: &HttpSettings,
        callbacks: Arc<Callbacks>,
        health: Health,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            verifiers: Verifiers::new(context.clock().clone(), http.callback_allow_unsigned),
            unknown_states: Unknown::default(),
            api_keys: ApiKeys::new(http.api_key.as_ref(), context.clone()),
            context,
            callbacks,
            trusted_proxies: http.trusted_proxies.clone(),
            health,
            stopping,
            long_polls: Semaphore::new(LONG_POLLS),
        })
    }
}
