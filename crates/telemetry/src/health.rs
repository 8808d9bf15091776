//! Readiness of a process, the answer of `/readyz`.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

/// The parts of a process on which its readiness depends. A clone shares the parts.
///
/// Parts whose names are equal up to a colon (`websocket:cli_…`) are of one kind, each for one application. One ready part
/// makes its kind ready.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Option<Cow<'static, str>>>>>);

impl Health {
    /// Creates a value without parts, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part, not ready ("starting") until its owner changes that. Replaces a part of the same name.
    pub fn register(&self, name: impl Into<String>) -> HealthHandle {
        let name = name.into();
        self.parts().insert(name.clone(), Some("starting".into()));
        HealthHandle { health: self.clone(), name }
    }

    /// Returns the state of all parts, by name.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let parts: Vec<_> = self
            .parts()
            .iter()
            .map(|(name, reason)| HealthPart {
                name: name.clone(),
                ready: reason.is_none(),
                reason: reason.clone().map(Cow::into_owned),
            })
            .collect();
        let mut kinds = BTreeMap::<&str, bool>::new();
        for part in &parts {
            let kind = part.name.split(':').next().unwrap_or_default();
            *kinds.entry(kind).or_default() |= part.ready;
        }
        let ready = kinds.into_values().all(|ready| ready);
        HealthReport { ready, parts }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<String, Option<Cow<'static, str>>>> {
        self.0.lock()
    }
}

/// Handle of the owner of one part. Dropping the handle makes the part not ready ("stopped"), so a dead owner is visible.
#[derive(Debug)]
pub struct HealthHandle {
    health: Health,
    name: String,
}

impl HealthHandle {
    /// Marks the part as ready.
    pub fn set_ready(&self) {
        if self.set(None) {
            tracing::info!(part = self.name, "ready");
        }
    }

    /// Marks the part as not ready. Operators see the reason, so it must not contain a secret.
    pub fn set_not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        let reason = reason.into();
        if self.set(Some(reason.clone())) {
            tracing::warn!(part = self.name, %reason, "not ready");
        }
    }

    /// Removes the part: readiness no longer depends on it.
    pub fn remove(self) {
        self.health.parts().remove(&self.name);
    }

    /// Sets the reason and returns true when the state changed. Does nothing for a removed part.
    fn set(&self, reason: Option<Cow<'static, str>>) -> bool {
        let mut parts = self.health.parts();
        parts.get_mut(&self.name).is_some_and(|part| {
            let changed = *part != reason;
            *part = reason;
            changed
        })
    }
}

impl Drop for HealthHandle {
    fn drop(&mut self) {
        self.set(Some("stopped".into()));
    }
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// True when one part of each kind is ready.
    pub ready: bool,
    /// Parts, by name.
    pub parts: Vec<HealthPart>,
}

/// One part of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthPart {
    /// Name, for example `database` or `websocket:cli_…`.
    pub name: String,
    /// True when the part is ready.
    pub ready: bool,
    /// Reason of a part that is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_report_with_unready_part_is_not_ready() {
        let health = Health::new();
        assert!(health.report().ready);
        let (database, bus) = (health.register("database"), health.register("bus"));
        assert!(!health.report().ready);
        database.set_ready();
        bus.set_ready();
        assert!(health.report().ready);
        bus.set_not_ready("no connection to the broker");
        assert_eq!(
            serde_json::to_string(&health.report()).unwrap(),
            r#"{"ready":false,"parts":[{"name":"bus","ready":false,"reason":"no connection to the broker"},{"name":"database","ready":true}]}"#
        );
        bus.remove();
        assert!(health.report().ready);
        drop(database);
        assert_eq!(health.report().parts[0].reason.as_deref(), Some("stopped"));
    }

    #[test]
    fn health_report_with_one_ready_part_of_a_kind_is_ready() {
        let health = Health::new();
        let (database, first) = (health.register("database"), health.register("websocket:cli_1"));
        let second = health.register("websocket:cli_2");
        database.set_ready();
        assert!(!health.report().ready);
        second.set_ready();
        first.set_not_ready("Lark refuses the application");
        let report = health.report();
        assert!(report.ready && !report.parts[1].ready, "the other part is still reported: {report:?}");
        second.set_not_ready("connecting");
        assert!(!health.report().ready);
        first.set_ready();
        assert!(health.report().ready);
        database.set_not_ready("gone");
        assert!(!health.report().ready);
    }
}
