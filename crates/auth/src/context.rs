use std::{sync::Arc, time::Duration};

use larkauth_messaging::Bus;
use larkauth_models::{CardOptions, Clock, Entropy, Timestamp};
use larkauth_storage::{Cipher, InvitationLimit, Store};
use larkauth_telemetry::Metrics;

use crate::Directory;

/// What every verb needs. Built once by a service, cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// The way messages take.
    pub bus: Arc<dyn Bus>,
    /// Registered applications and their Lark clients.
    pub apps: Arc<Directory>,
    /// For secrets inside messages.
    pub cipher: Cipher,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Counters.
    pub metrics: Metrics,
    /// What the settings say.
    pub policy: Arc<Policy>,
}

/// The settings that decisions depend on.
#[derive(Clone, Debug)]
pub struct Policy {
    /// CloudEvents `source` of this process, e.g. `/larkauth/gateway`.
    pub source: String,
    /// Life of an invitation.
    pub session_lifetime: Duration,
    /// How often one person may be asked.
    pub invitation_limit: InvitationLimit,
    /// How cards look unless the request says otherwise.
    pub card: CardOptions,
}

impl Context {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
