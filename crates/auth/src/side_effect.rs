//! The steps of a refresh that change something outside this process, named where they are taken.
//!
//! Before and after each of them a process may end. [`FaultPoint::all`] lists these moments; a test gives
//! [`Context::with_faults`](crate::Context::with_faults) a hook that kills the process at one of them, and tries all. A service has no hook.

/// A step that changes something outside this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SideEffect {
    /// The lease of a token, or the leases of those that are due, is taken.
    Lease,
    /// The refresh token is sent to Lark, and its answer read.
    Call,
    /// A new pair is written over its generation.
    StorePair,
    /// A new pair is published, because the store did not take it.
    PublishPair,
    /// A new pair is written to the spool, because the bus did not take it.
    SpoolPair,
    /// A file that was moved to the store is removed from the spool.
    UnspoolPair,
    /// The lease is ended without a new pair.
    EndLease,
    /// The breaker of the application is opened.
    OpenBreaker,
    /// The breaker of the application is closed.
    CloseBreaker,
}

impl SideEffect {
    /// Every step.
    pub const ALL: [Self; 9] = [
        Self::Lease,
        Self::Call,
        Self::StorePair,
        Self::PublishPair,
        Self::SpoolPair,
        Self::UnspoolPair,
        Self::EndLease,
        Self::OpenBreaker,
        Self::CloseBreaker,
    ];
}

/// The moment before or after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// Nothing of the step was done.
    Before(SideEffect),
    /// The step was done, or was tried in vain.
    After(SideEffect),
}

impl FaultPoint {
    /// Returns every moment, in the order of [`SideEffect::ALL`].
    pub fn all() -> impl Iterator<Item = Self> {
        SideEffect::ALL.into_iter().flat_map(|effect| [Self::Before(effect), Self::After(effect)])
    }
}

/// Is told when a fault point is reached.
pub trait Faults: Send + Sync + 'static {
    /// Takes note of the moment, or ends the process.
    fn reached(&self, point: FaultPoint);
}
