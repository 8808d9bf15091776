use std::{collections::BTreeMap, sync::Arc};

use larkauth_lark::long_connection::ConnectionState;
use larkauth_models::AppId;
use parking_lot::RwLock;
use tokio::sync::watch;

/// The state of each application's long connection. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionStates(Arc<RwLock<BTreeMap<AppId, watch::Receiver<ConnectionState>>>>);

impl ConnectionStates {
    /// Whether HTTP callbacks replace this application's long connection for now.
    pub(crate) fn is_fallen_back(&self, app_id: &AppId) -> bool {
        self.0.read().get(app_id).is_some_and(|state| state.borrow().is_fallen_back())
    }

    pub(crate) fn insert(&self, app_id: AppId, state: watch::Receiver<ConnectionState>) {
        self.0.write().insert(app_id, state);
    }

    pub(super) fn remove(&self, app_id: &AppId) {
        self.0.write().remove(app_id);
    }
}
