//! One long connection per enabled application, kept in step with the store.

mod keeper;
mod pushes;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use larkauth_lark::long_connection::ConnectionState;
use larkauth_models::AppId;
use tokio::sync::watch;

pub(crate) use keeper::Connections;
#[cfg(test)]
pub(crate) use pushes::Pushes;

/// Where each application's long connection stands. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionStates(Arc<RwLock<BTreeMap<AppId, watch::Receiver<ConnectionState>>>>);

impl ConnectionStates {
    /// Whether HTTP callbacks stand in for this application's long connection.
    pub(crate) fn is_fallen_back(&self, app_id: &AppId) -> bool {
        let states = self.0.read().unwrap_or_else(PoisonError::into_inner);
        states.get(app_id).is_some_and(|state| state.borrow().is_fallen_back())
    }

    pub(crate) fn insert(&self, app_id: AppId, state: watch::Receiver<ConnectionState>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(app_id, state);
    }

    fn remove(&self, app_id: &AppId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(app_id);
    }
}
