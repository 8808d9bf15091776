//! How many people the rate limit of one application can carry: a simulation over the functions that decide in production,
//! [`RefreshSchedule`](crate::RefreshSchedule) and [`CallRate`](larkauth_models::CallRate).

mod budget;
mod people;
mod queue;
mod scenario;
mod simulation;
#[cfg(test)]
mod tests;

pub use scenario::{Outcome, Scenario};
pub use simulation::carried;
