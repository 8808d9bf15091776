//! The real binary: its output and exit codes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure is a failed test")]

mod apps;
mod audit;
mod backup;
mod cards;
mod dead_letters;
mod doctor;
mod elsewhere;
mod encryption_keys;
mod help;
mod json;
mod keys;
mod migrate;
mod sessions;
mod stage;
mod standalone;
mod walkthrough;
