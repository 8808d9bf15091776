use std::sync::Arc;

use larkauth_contracts::message::{Envelope, Message};
use larkauth_messaging::{Bus, Outgoing};
use larkauth_models::{Actor, AppId, Clock, Entropy, EventId, Timestamp};
use larkauth_storage::{Cipher, Store};
use larkauth_telemetry::Metrics;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    apps::{AppRegistry, LarkSettings},
    audit_queue::AuditQueue,
    error::AuthError,
    key_watch::KeyWatch,
    policy::Policy,
    reads::Reads,
    relay::Relay,
    side_effect::{FaultPoint, Faults, SideEffect},
    spool::EscrowSpool,
};

/// Looks at people after a refresh that one process runs at once.
const LOOKS: usize = 8;

/// What a [`Context`] is built from.
#[derive(Clone)]
pub struct ContextParts {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The message bus.
    pub bus: Arc<dyn Bus>,
    /// Registered applications and their Lark clients.
    pub apps: Arc<AppRegistry>,
    /// Seals secrets inside messages.
    pub cipher: Cipher,
    /// Where tokens go that neither database nor bus takes.
    pub spool: EscrowSpool,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Counters.
    pub metrics: Metrics,
    /// Settings and timings.
    pub policy: Policy,
}

/// The way into the domain: every operation is a method. A service builds one; clones are cheap and share everything.
#[derive(Clone)]
pub struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) apps: Arc<AppRegistry>,
    pub(crate) cipher: Cipher,
    pub(crate) spool: EscrowSpool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) metrics: Metrics,
    pub(crate) policy: Arc<Policy>,
    pub(crate) relay: Arc<Relay>,
    /// Owns the refreshes that have begun, which no caller interrupts.
    pub(crate) refreshing: TaskTracker,
    pub(crate) audit: Arc<AuditQueue>,
    /// Which encryption keys are missing.
    pub(crate) keys: Arc<KeyWatch>,
    /// A test's hook.
    pub(crate) faults: Option<Arc<dyn Faults>>,
    /// Looks at people after a refresh that run at once. More are left to the next refresh.
    pub(crate) looks: Arc<Semaphore>,
    pub(crate) reads: Arc<Reads>,
}

impl Context {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: ContextParts) -> Self {
        let ContextParts { store, bus, apps, cipher, spool, clock, entropy, metrics, policy } = parts;
        let relay = Arc::new(Relay::new(bus.clone(), &apps, &metrics, &clock, &entropy, &policy));
        let refreshing = TaskTracker::new();
        let audit = Arc::new(AuditQueue::new(policy.audit.clone(), metrics.clone()));
        let reads = Arc::new(Reads::new(&policy, clock.clone()));
        Self {
            store,
            bus,
            apps,
            cipher,
            spool,
            clock,
            entropy,
            metrics,
            policy: Arc::new(policy),
            relay,
            refreshing,
            audit,
            keys: Arc::default(),
            faults: None,
            looks: Arc::new(Semaphore::new(LOOKS)),
            reads,
        }
    }

    /// Returns the time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns a new identifier that sorts by time.
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        self.entropy.uuid(&*self.clock)
    }

    /// Returns the clock, for parts of a service that measure time themselves.
    #[must_use]
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Returns the source of randomness, for waits with jitter.
    #[must_use]
    pub const fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// Returns the counters.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the settings and timings.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns how Lark is reached.
    #[must_use]
    pub fn lark(&self) -> &LarkSettings {
        self.apps.lark()
    }

    /// Checks that the actor sees an application.
    pub(crate) fn check_app(actor: &Actor, app_id: &AppId) -> Result<(), AuthError> {
        if actor.may_use_app(app_id) {
            return Ok(());
        }
        Err(AuthError::Forbidden(format!(
            "The API key is not for application {app_id}; the operator makes keys with `larkauth keys create --for-app`"
        )))
    }

    /// Notes who asked for an operation, and when.
    pub(crate) fn note_operation(&self, actor: &Actor, now: Timestamp, operation: &'static str) {
        tracing::debug!(%actor, %now, operation, "auth.operation");
    }

    /// Wraps a message of this process.
    pub(crate) fn outgoing<T: Message>(
        &self,
        id: EventId,
        app_id: &AppId,
        data: T,
    ) -> Result<Outgoing, AuthError> {
        Ok(Outgoing::new(&Envelope::new(id, &self.policy.source, self.now(), app_id.clone(), data))?)
    }

    /// Returns a context that tells this hook of each fault point.
    #[must_use]
    pub fn with_faults(self, faults: Arc<dyn Faults>) -> Self {
        Self { faults: Some(faults), ..self }
    }

    /// Takes one step.
    pub(crate) async fn step<T>(&self, effect: SideEffect, work: impl Future<Output = T>) -> T {
        let reached = |point| {
            if let Some(faults) = &self.faults {
                faults.reached(point);
            }
        };
        reached(FaultPoint::Before(effect));
        let done = work.await;
        reached(FaultPoint::After(effect));
        done
    }
}
