//! The traits of `larkauth-storage` over one SQLite file, for a single machine, with statements checked at compile time.
//! Any number of processes may have the file open.
//!
//! A confirmed call is on the disk: the write-ahead log is synced at every commit, so neither a killed process nor a
//! power failure reverts it. One connection writes, in the order of the calls; others read beside it.
//!
//! What may live here: SQLite's statements, one file for each trait. What may not: how the file is opened and migrated,
//! which is `larkauth-sqlite`'s; anything that the PostgreSQL store would have to repeat.
//!
//! To add a query: see `larkauth-storage`; after a changed statement or migration run `scripts/generate`, which renews
//! the committed query data in `.sqlx`.

mod api_keys;
mod applications;
mod columns;
mod creation;
mod error;
mod exchange;
mod job_ticks;
mod processed_events;
mod profiles;
mod sessions;
mod store;
#[cfg(feature = "testing")]
#[expect(clippy::unwrap_used, reason = "a test without its file cannot go on")]
pub mod testing;
mod tokens;
mod transfer;

pub use store::{SqliteOptions, SqliteStore};
