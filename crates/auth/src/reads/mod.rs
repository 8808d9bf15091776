//! What a process keeps in memory of the store, so that a read of a token needs no query: tokens, API keys, whether an
//! application is enabled.
//!
//! The rule is that no answer is older than [`Policy::read_staleness`](crate::Policy::read_staleness): what a read is served was
//! in the database at most that long ago. [`coverage`] decides it. `changes` applies the changes that the database announces,
//! and thereby renews what is kept; without it, and while the database is silent, each value ends by itself. [`cache`] holds
//! the values, [`tokens`] those of people.

mod cache;
mod coverage;
mod tokens;

use std::sync::Arc;

use larkauth_models::Clock;
use larkauth_storage::{ApiKey, Change};
use tokio::time::Instant;

use self::{cache::Cache, coverage::Coverage, tokens::Tokens};
use crate::policy::Policy;

/// Most API keys and most applications that are kept.
const CAPACITY: usize = 10_000;

/// The values that one process keeps.
pub(crate) struct Reads {
    pub(crate) tokens: Tokens,
    /// By the SHA-256 of the key.
    pub(crate) api_keys: Cache<[u8; 32], Arc<ApiKey>>,
    /// Whether the application is enabled.
    pub(crate) applications: Cache<String, bool>,
    coverage: Arc<Coverage>,
}

impl Reads {
    pub(crate) fn new(policy: &Policy, clock: Arc<dyn Clock>) -> Self {
        let coverage = Arc::new(Coverage::new(policy.read_staleness, policy.read_life));
        Self {
            tokens: Tokens::new(Cache::new(coverage.clone(), policy.read_tokens), clock),
            api_keys: Cache::new(coverage.clone(), CAPACITY),
            applications: Cache::new(coverage.clone(), CAPACITY),
            coverage,
        }
    }

    /// Applies a change.
    pub(crate) fn apply(&self, change: &Change) {
        match change {
            Change::Token { open_id, .. } => self.tokens.forget(open_id),
            Change::Applications => self.applications.clear(),
            Change::ApiKeys => self.api_keys.clear(),
            Change::Everything => self.clear(),
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.tokens.clear();
        self.applications.clear();
        self.api_keys.clear();
    }

    /// Notes that every change that was committed before `moment` has been applied.
    pub(crate) fn extend(&self, moment: Instant) {
        self.coverage.extend(moment);
    }

    /// Drops what may not be served any more, so that no secret stays in memory for longer.
    pub(crate) fn sweep(&self) {
        self.tokens.sweep();
        self.applications.sweep(|_| true);
        self.api_keys.sweep(|_| true);
    }
}
