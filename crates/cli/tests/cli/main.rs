//! The real binary: what it prints, where, and how it ends.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure is a failed test")]

mod apps;
mod cards;
mod dead_letters;
mod doctor;
mod help;
mod json;
mod keys;
mod migrate;
mod sessions;
mod stage;
mod walkthrough;
