//! What is stored and how: repository traits, encryption at rest, transfer between databases, one conformance suite.
//!
//! What may live here: what all databases share. What may not: a statement of one database, a decision about
//! authorization, a call to Lark, a message. The code above knows [`Store`] only and cannot tell which database is
//! behind it; `larkauth-storage-postgres` and `larkauth-storage-sqlite` implement it.
//!
//! To add a query: write it on the trait it belongs to, with `now` as an argument (no database clock decides anything),
//! make every change of state one conditional statement whose affected rows are checked, implement it in the file of the
//! same name of each database crate, add a case to `conformance`, and run `scripts/generate`.
//! To add a table or a column: a migration for each database, under the same names (sealed values are bound to them),
//! and its field in [`transfer`], so that it moves from one database to the other.

mod api_keys;
mod applications;
pub mod backend;
mod cipher;
#[cfg(feature = "conformance")]
#[expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]
pub mod conformance;
mod error;
mod job_ticks;
mod processed_events;
mod profiles;
mod session_types;
mod sessions;
mod store;
#[cfg(feature = "conformance")]
#[expect(clippy::unwrap_used, reason = "a test without its data cannot go on")]
pub mod testing;
mod tokens;
pub mod transfer;

pub use api_keys::{ApiKey, ApiKeys};
pub use applications::{Applications, Registration};
pub use backend::migrations::MigrationReport;
pub use cipher::{Cipher, CipherError, EncryptionKey, Sealed};
pub use error::StorageError;
pub use job_ticks::JobTicks;
pub use processed_events::ProcessedEvents;
pub use profiles::Profiles;
pub use session_types::{
    ActiveCounts, CodeBinding, Completion, Created, ExchangeClaim, InvitationLimit, NewSession,
    SessionCursor, SessionEnding, SessionFilter,
};
pub use sessions::Sessions;
pub use store::Store;
pub use tokens::Tokens;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, StorageError>;
