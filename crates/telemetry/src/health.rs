//! Health of a process: what its parts report, and whether it can take requests.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use larkauth_models::{Clock, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

/// The parts of a process. A clone shares the parts.
///
/// Readiness depends on the required parts only: a part whose failure leaves requests served must not take the process
/// out of a load balancer.
#[derive(Clone, Debug)]
pub struct Health {
    clock: Arc<dyn Clock>,
    parts: Arc<Mutex<BTreeMap<String, Part>>>,
}

#[derive(Clone, Debug)]
struct Part {
    required: bool,
    state: PartState,
    since: Timestamp,
    reason: Option<Cow<'static, str>>,
}

impl Health {
    /// Creates a value without parts, which is ready. The clock tells since when a part is in its state.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, parts: Arc::default() }
    }

    /// Adds a part, which is starting until its owner changes that. Replaces a part of the same name.
    pub fn register(&self, name: impl Into<String>) -> HealthHandle {
        self.add(name.into(), false)
    }

    /// Adds a part as [`Health::register`] does, and makes readiness depend on it.
    pub fn register_required(&self, name: impl Into<String>) -> HealthHandle {
        self.add(name.into(), true)
    }

    fn add(&self, name: String, required: bool) -> HealthHandle {
        let part = Part { required, state: PartState::Starting, since: self.clock.now(), reason: None };
        self.parts().insert(name.clone(), part);
        HealthHandle { health: self.clone(), name }
    }

    /// Returns the state of all parts, by name.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let parts = self.select(|_| true);
        let status =
            if parts.iter().all(HealthPart::is_ok) { HealthStatus::Ok } else { HealthStatus::Degraded };
        HealthReport { status, parts }
    }

    /// Returns whether the process can take requests, and the parts that decide it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let parts = self.select(|part| part.required);
        Readiness { ready: parts.iter().all(HealthPart::is_ok), parts }
    }

    fn select(&self, wanted: impl Fn(&Part) -> bool) -> Vec<HealthPart> {
        let parts = self.parts();
        let wanted = parts.iter().filter(|(_, part)| wanted(part));
        wanted
            .map(|(name, part)| HealthPart {
                name: name.clone(),
                state: part.state,
                since: part.since,
                reason: part.reason.clone().map(Cow::into_owned),
            })
            .collect()
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<String, Part>> {
        self.parts.lock()
    }
}

/// Handle of the owner of one part. Dropping the handle stops the part, so a dead owner is visible.
#[derive(Debug)]
pub struct HealthHandle {
    health: Health,
    name: String,
}

impl HealthHandle {
    /// Marks the part as working.
    pub fn set_ready(&self) {
        if self.set(PartState::Ok, None) {
            tracing::info!(part = self.name, "health.part.ok");
        }
    }

    /// Marks the part as failing. Operators see the reason, so it must not contain a secret.
    pub fn set_not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        let reason = reason.into();
        if self.set(PartState::Failing, Some(reason.clone())) {
            tracing::warn!(part = self.name, %reason, "health.part.failing");
        }
    }

    /// Removes the part.
    pub fn remove(self) {
        self.health.parts().remove(&self.name);
    }

    /// Sets state and reason, and returns true when one of them changed. Does nothing for a removed part.
    fn set(&self, state: PartState, reason: Option<Cow<'static, str>>) -> bool {
        let now = self.health.clock.now();
        let mut parts = self.health.parts();
        parts.get_mut(&self.name).is_some_and(|part| {
            let changed = (part.state, &part.reason) != (state, &reason);
            if part.state != state {
                part.since = now;
            }
            (part.state, part.reason) = (state, reason);
            changed
        })
    }
}

impl Drop for HealthHandle {
    fn drop(&mut self) {
        self.set(PartState::Stopped, None);
    }
}

/// State of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// Its owner has not reported yet.
    Starting,
    /// Works.
    Ok,
    /// Does not work; the reason says why.
    Failing,
    /// Its owner has ended.
    Stopped,
}

/// State of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Every part works.
    Ok,
    /// At least one part does not work. What does not need it is served.
    Degraded,
}

/// The answer of `/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// State of the process.
    pub status: HealthStatus,
    /// Parts, by name.
    pub parts: Vec<HealthPart>,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// True when every required part works.
    pub ready: bool,
    /// Required parts, by name.
    pub parts: Vec<HealthPart>,
}

/// One part of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPart {
    /// Name, for example `database` or `websocket:cli_…`.
    pub name: String,
    /// State.
    pub state: PartState,
    /// Time of the last change of the state.
    pub since: Timestamp,
    /// Reason of a part that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl HealthPart {
    /// Returns whether the part works.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.state == PartState::Ok
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larkauth_models::ManualClock;

    use super::*;

    fn health() -> (Health, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        (Health::new(clock.clone()), clock)
    }

    #[test]
    fn readiness_depends_on_required_parts_only() {
        let (health, _) = health();
        assert!(health.readiness().ready);
        let (database, bus) = (health.register_required("database"), health.register("bus"));
        assert!(!health.readiness().ready);
        database.set_ready();
        bus.set_not_ready("no connection to the broker");
        let readiness = health.readiness();
        assert!(readiness.ready);
        assert_eq!(readiness.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["database"]);
        drop(database);
        assert!(!health.readiness().ready);
        assert_eq!(health.readiness().parts[0].state, PartState::Stopped);
    }

    #[test]
    fn report_with_failing_part_is_degraded_and_tells_since_when() {
        let (health, clock) = health();
        let (database, bus) = (health.register_required("database"), health.register("bus"));
        database.set_ready();
        clock.advance(Duration::from_secs(60));
        bus.set_not_ready("no connection to the broker");
        clock.advance(Duration::from_secs(60));
        // Another reason is no other state.
        bus.set_not_ready("the broker is silent");
        assert_eq!(
            serde_json::to_string(&health.report()).unwrap(),
            r#"{"status":"degraded","parts":[{"name":"bus","state":"failing","since":"1970-01-01T00:01:00Z","reason":"the broker is silent"},{"name":"database","state":"ok","since":"1970-01-01T00:00:00Z"}]}"#
        );
        bus.set_ready();
        assert_eq!(health.report().status, HealthStatus::Ok);
        bus.set_not_ready("gone");
        bus.remove();
        assert_eq!(health.report().status, HealthStatus::Ok);
    }
}
