//! The SQLite file that the store and the embedded bus of a single machine share: opening, pragmas, file mode,
//! migrations, waits for other writers, backups.
//!
//! What may live here: code that both the store and the bus need. What may not: a table's statements, which belong to
//! the store or to the bus.
//!
//! To add a table: a migration in `migrations/sqlite`. Store and bus share one list of migrations, because a file has
//! one schema version; [`migrate`] applies the list and [`check_schema`] compares it with the file.

mod backup;
mod error;
mod file;
mod schema;

pub use backup::{Backup, copy_into};
pub use error::{SqliteError, code, is_busy, is_damage, is_denied, is_transient};
pub use file::{connect, options, prepare, verify};
pub use schema::{BEGIN_WRITING, MigrationReport, check_schema, migrate};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, SqliteError>;
