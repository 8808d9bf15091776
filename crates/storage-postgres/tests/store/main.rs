//! One binary for all tests of the store, so that they are linked once.
#![expect(clippy::unwrap_used, reason = "a test")]

mod claims;
mod conformance;
mod faults;
mod newer_schema;
mod plans;
mod pooled;
mod schema;
mod tls;
