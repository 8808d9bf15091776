use std::sync::Arc;

use larkauth_auth::Context;
use larkauth_config::HttpSettings;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    api::ApiKeys, callbacks::Verifiers, connections::ConnectionStates, edge::IN_FLIGHT, intake::Intake,
    problem::Reporter,
};

/// How many long polls may wait at once; the rest of [`IN_FLIGHT`] stays free for quick requests.
const WAITERS: usize = IN_FLIGHT / 2;

/// What the HTTP handlers share.
pub(crate) struct Gateway {
    pub(crate) context: Context,
    pub(crate) intake: Arc<Intake>,
    pub(crate) connections: ConnectionStates,
    pub(crate) verifiers: Verifiers,
    pub(crate) api_keys: ApiKeys,
    pub(crate) reporter: Reporter,
    /// HTTP callbacks are accepted always, not only as fallback.
    pub(crate) callback_enabled: bool,
    /// Ends long polls when the process is to stop.
    pub(crate) stopping: CancellationToken,
    /// Requests being served.
    pub(crate) in_flight: Semaphore,
    /// Long polls being served.
    pub(crate) waiters: Semaphore,
}

impl Gateway {
    pub(crate) fn new(
        context: Context,
        http: &HttpSettings,
        intake: Arc<Intake>,
        connections: ConnectionStates,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            verifiers: Verifiers::new(context.clock().clone()),
            api_keys: ApiKeys::new(http.api_key.as_ref(), context.clone()),
            context,
            intake,
            connections,
            reporter: Reporter::default(),
            callback_enabled: http.callback_enabled,
            stopping,
            in_flight: Semaphore::new(IN_FLIGHT),
            waiters: Semaphore::new(WAITERS),
        })
    }
}
