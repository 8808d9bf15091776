//! One binary for the tests of the embedded bus, so that they are linked once.
#![expect(clippy::unwrap_used, reason = "a test")]

mod conformance;
mod file;
mod kill;
