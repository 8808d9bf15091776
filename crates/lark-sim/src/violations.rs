use std::collections::{BTreeMap, VecDeque};

use larkauth_models::Timestamp;
use serde::{Deserialize, Serialize};

use crate::faults::Endpoint;

/// An act that a correct client never commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Its kind.
    pub kind: ViolationKind,
    /// The application that committed it.
    pub app_id: String,
    /// Details. Never holds a secret.
    pub detail: String,
    /// Time by the simulator's clock.
    pub at: Timestamp,
}

/// Kinds of violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// An authorization code was presented again although its success had been delivered.
    CodeReplayed,
    /// A refresh token was presented again although its success had been delivered.
    RefreshReplayed,
    /// Two refreshes of one person's token ran at once.
    RefreshesInFlight,
    /// More calls than the limit allows.
    LimitExceeded,
    /// A batch without an id, or with more ids than the platform takes.
    BatchSize,
    /// A connection beyond the limit.
    TooManyConnections,
    /// A push was answered after its deadline.
    LateAnswer,
    /// A delayed update was sent before its callback was answered.
    CardUpdateBeforeAnswer,
    /// A card above the size limit.
    MessageTooLarge,
    /// A frame that lacks a required field, or is not a frame.
    MalformedFrame,
    /// A frame whose `service` is not the one of its connection.
    WrongService,
    /// An answer to a push that was never made on this connection.
    UnknownAnswer,
    /// A second answer to a push that was made once.
    AnsweredTwice,
    /// An answer that does not repeat its push, or is not of the documented shape.
    MalformedAnswer,
}

/// The busiest windows of one application and endpoint group, counted with the calls that were refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// Most calls in any second.
    pub in_a_second: usize,
    /// Most calls in any 60 s.
    pub in_a_minute: usize,
}

/// Counters of the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Calls by endpoint, refused ones included.
    pub calls: BTreeMap<Endpoint, u64>,
    /// Long connections ever opened.
    pub connections_opened: u64,
    /// Long connections open now.
    pub connections_open: u64,
    /// Pings received.
    pub pings: u64,
    /// Events and card callbacks pushed, by either way.
    pub pushes: u64,
    /// Pushes answered in time.
    pub answers: u64,
}

impl Stats {
    /// Calls of one endpoint.
    #[must_use]
    pub fn calls(&self, endpoint: Endpoint) -> u64 {
        self.calls.get(&endpoint).copied().unwrap_or(0)
    }
}

/// The newest violations.
#[derive(Default)]
pub(crate) struct Violations(VecDeque<Violation>);

impl Violations {
    const CAPACITY: usize = 10_000;

    pub(crate) fn add(
        &mut self,
        now: Timestamp,
        kind: ViolationKind,
        app_id: &str,
        detail: impl Into<String>,
    ) {
        let violation = Violation { kind, app_id: app_id.to_owned(), detail: detail.into(), at: now };
        tracing::warn!(?kind, app_id, detail = violation.detail, "sim.violation");
        if self.0.len() == Self::CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(violation);
    }

    pub(crate) fn list(&self) -> Vec<Violation> {
        self.0.iter().cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
