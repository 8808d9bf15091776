//! What is kept, and how: repository traits, their PostgreSQL and SQLite implementations, encryption at rest.
//!
//! What may live here: SQL, transactions, the cipher. What may not: a decision about authorization, a call to Lark,
//! a message. The code above knows [`Store`] only and cannot tell which database is behind it.
//!
//! To add a query: write it on the trait it belongs to, with `now` as an argument (no database clock decides anything),
//! make every change of state one conditional statement whose affected rows are looked at, implement it in every
//! database module, add a case to `conformance`, which every implementation must pass, and run `scripts/generate-sqlx`.
//! To add a table or a column: a migration for each database, under the same names (they are part of what sealed values
//! are bound to), and its line in `portable`, so that it moves along from one database to the other.

mod cipher;
#[cfg(feature = "conformance")]
#[expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]
pub mod conformance;
mod driver;
mod error;
mod job_ticks;
mod migrations;
mod portable;
mod postgres;
mod rows;
mod sealed;
mod sqlite;
mod store;
#[cfg(feature = "conformance")]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test without its database cannot go on")]
pub mod testing;

pub use cipher::{Cipher, CipherError, EncryptionKey, Sealed};
pub use error::StorageError;
pub use job_ticks::JobTicks;
pub use migrations::MigrationReport;
pub use portable::{
    ClosedKey, ComparedTable, Portable, PortableRow, Table, TableProgress, TransferredTable, closed_keys,
    compare, transfer,
};
pub use postgres::{PgOptions, PgStore};
pub use sqlite::{SqliteOptions, SqliteStore};
pub use store::{
    ActiveCounts, ApiKey, ApiKeys, Applications, CodeBinding, Completion, Created, ExchangeClaim,
    InvitationLimit, NewSession, ProcessedEvents, Profiles, Registration, SessionCursor, SessionEnding,
    SessionFilter, Sessions, Store, Tokens,
};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, StorageError>;
