//! From an authorization code to a stored token.

mod deadline;
mod exchange;

pub(crate) use deadline::Budget;
pub use deadline::HANDLER_DEADLINE;
pub(crate) use exchange::{Attempt, run};
