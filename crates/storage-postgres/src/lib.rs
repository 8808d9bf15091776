//! The traits of `larkauth-storage` over PostgreSQL, with statements checked at compile time.
//!
//! What may live here: PostgreSQL's statements, one file for each trait. What may not: a decision about authorization;
//! anything that the SQLite store would have to repeat belongs to `larkauth_storage::backend`.
//!
//! To add a query: see `larkauth-storage`; after a changed statement or migration run `scripts/generate`, which renews
//! the committed query data in `.sqlx`.

mod api_keys;
mod applications;
mod audit;
mod call_budgets;
mod changes;
mod connect;
mod creation;
mod device_polls;
mod encryption_keys;
mod error;
mod exchange;
mod horizon;
mod job_ticks;
mod migrations;
mod people;
mod processed_events;
mod profiles;
mod reauthorizations;
mod refreshes;
#[cfg(target_os = "linux")]
mod relay;
mod same_database;
mod session_mode;
mod sessions;
mod store;
#[cfg(feature = "testing")]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test without its database cannot continue")]
pub mod testing;
mod token_reader;
mod tokens;
mod transfer;

pub use connect::is_postgres_url;
pub use store::{PgOptions, PgStore};
