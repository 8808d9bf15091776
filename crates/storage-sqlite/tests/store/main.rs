//! One binary for all tests of the store, so that they are linked once.
#![expect(clippy::unwrap_used, reason = "a test")]

mod conformance;
mod file;
mod kill;
mod newer_schema;
mod plans;
mod transfer;
