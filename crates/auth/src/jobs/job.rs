use futures::future::BoxFuture;
use larkauth_models::{Actor, Timestamp};

use super::schedule::Schedule;
use crate::{context::Context, error::AuthError};

/// Who runs a tick of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One process of all that share the store, whichever claims the tick first.
    Cluster,
    /// Every process, for its own gauges.
    Process,
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name, in logs and in the table of ticks. A renamed job is a new one.
    pub name: &'static str,
    /// When it runs.
    pub schedule: Schedule,
    /// Where it runs.
    pub scope: Scope,
    /// Does the work for the actor at a time, and returns the number of things done.
    pub run: for<'a> fn(&'a Context, &'a Actor, Timestamp) -> BoxFuture<'a, Result<u64, AuthError>>,
}
