//! The traits of `larkauth-storage` over one SQLite file, for a single machine, with statements checked at compile
//! time. Several processes can use the file at the same time.
//!
//! A confirmed write is durable: the write-ahead log is synced at every commit, so the write survives a killed process
//! and a power failure. One connection executes the writes, in the order of the calls; other connections read
//! concurrently.
//!
//! What may live here: SQLite's statements, one file for each trait. What may not: opening and migrating the file,
//! which belongs to `larkauth-sqlite`; anything that the PostgreSQL store would have to repeat.
//!
//! To add a query: see `larkauth-storage`; after a changed statement or migration run `scripts/generate`, which renews
//! the committed query data in `.sqlx`.

mod api_keys;
mod applications;
mod audit;
mod call_budgets;
mod changes;
mod columns;
mod creation;
mod device_polls;
mod encryption_keys;
mod error;
mod exchange;
mod horizon;
mod job_ticks;
mod people;
mod processed_events;
mod profiles;
mod reauthorizations;
mod refreshes;
mod sessions;
mod store;
#[cfg(feature = "testing")]
#[expect(clippy::unwrap_used, reason = "a test without its file cannot continue")]
pub mod testing;
mod tokens;
mod transfer;

pub use store::{SqliteOptions, SqliteStore};
