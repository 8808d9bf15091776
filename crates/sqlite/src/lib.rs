//! The one SQLite file of a single machine, which the store and the embedded bus share: opening, pragmas, file mode,
//! migrating, waiting for other writers.
//!
//! What may live here: what both users of the file need. What may not: a table's statements, which belong to the store
//! or to the bus.
//!
//! To add a table: a migration in `migrations/sqlite`. The list is one for the whole file, since a file has one schema
//! version; [`migrate`] applies it and [`check_schema`] compares.

mod error;
mod file;
mod schema;

pub use error::{SqliteError, code, is_busy, is_damage, is_denied, is_transient};
pub use file::{connect, options, prepare, verify};
pub use schema::{BEGIN_WRITING, MigrationReport, check_schema, migrate};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, SqliteError>;
