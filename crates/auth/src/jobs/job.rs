use futures::future::BoxFuture;
use larkauth_models::{Actor, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, error::AuthError, schedule::Schedule};

/// Who runs a tick of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One process of all that share the store: the first that claims the tick.
    Cluster,
    /// Every process, for its own gauges.
    Process,
}

/// Does the work of a job for the actor at a time, and returns the number of things done. A run that loops ends early once
/// the token is cancelled: the process is stopping.
pub type Run = for<'a> fn(
    &'a Context,
    &'a Actor,
    Timestamp,
    &'a CancellationToken,
) -> BoxFuture<'a, Result<u64, AuthError>>;

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name, in logs and in the table of ticks. A renamed job is a new one.
    pub name: &'static str,
    /// When it runs.
    pub schedule: Schedule,
    /// Where it runs.
    pub scope: Scope,
    /// The work.
    pub run: Run,
}
