//! What `/readyz` answers.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

/// The parts of a process on which its readiness depends. Cheap to clone; all clones are one.
///
/// Parts that share their name up to a colon (`websocket:cli_…`) are many of a kind, each for somebody else: the process
/// is of use, and ready, while one of them works.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Option<Cow<'static, str>>>>>);

impl Health {
    /// No parts: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part, not ready ("starting") until its owner says otherwise. A part of the same name is replaced.
    pub fn register(&self, name: impl Into<String>) -> HealthHandle {
        let name = name.into();
        self.parts().insert(name.clone(), Some("starting".into()));
        HealthHandle { health: self.clone(), name }
    }

    /// The state of all parts, by name.
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
        let ready = kinds.into_values().all(|works| works);
        HealthReport { ready, parts }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<String, Option<Cow<'static, str>>>> {
        self.0.lock()
    }
}

/// Held by the owner of one part. Dropped, it leaves the part not ready ("stopped"): an owner that died shows.
#[derive(Debug)]
pub struct HealthHandle {
    health: Health,
    name: String,
}

impl HealthHandle {
    /// The part works.
    pub fn set_ready(&self) {
        if self.set(None) {
            tracing::info!(part = self.name, "ready");
        }
    }

    /// The part does not work. The reason is shown to operators and must hold no secret.
    pub fn set_not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        let reason = reason.into();
        if self.set(Some(reason.clone())) {
            tracing::warn!(part = self.name, %reason, "not ready");
        }
    }

    /// Takes the part out: the process does not depend on it any more.
    pub fn remove(self) {
        self.health.parts().remove(&self.name);
    }

    /// True when that changed something. A part that was removed stays so.
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
    /// Whether every part is, or one of each kind.
    pub ready: bool,
    /// The parts, by name.
    pub parts: Vec<HealthPart>,
}

/// One part of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthPart {
    /// Its name, for example `database` or `websocket:cli_…`.
    pub name: String,
    /// Whether it works.
    pub ready: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_must_be_ready() {
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
    fn one_of_a_kind_is_enough() {
        let health = Health::new();
        let (database, first) = (health.register("database"), health.register("websocket:cli_1"));
        let second = health.register("websocket:cli_2");
        database.set_ready();
        assert!(!health.report().ready);
        second.set_ready();
        first.set_not_ready("Lark refuses the application");
        let report = health.report();
        assert!(report.ready && !report.parts[1].ready, "the other one is still told: {report:?}");
        second.set_not_ready("connecting");
        assert!(!health.report().ready);
        first.set_ready();
        assert!(health.report().ready);
        database.set_not_ready("gone");
        assert!(!health.report().ready);
    }
}
