//! The audit record: who did what, to what, when, from where, with which result.
//!
//! An operation makes the record first (`Context::act`). A change passes it to the store, which writes both in one
//! transaction. What changes nothing, a read or a refusal, is a log event at once and goes through the queue of
//! `audit_queue` into the database.
//!
//! To record another operation: an action in `larkauth_models::AuditAction`, and `settle_read` or `settle_change` around
//! the work.

mod reason;
mod record;
mod trail;

pub use trail::audit_view;
