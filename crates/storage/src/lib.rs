//! What is kept, and how: repository traits, their PostgreSQL implementation, encryption at rest.
//!
//! What may live here: SQL, transactions, the cipher. What may not: a decision about authorization, a call to Lark,
//! a message. The code above knows [`Store`] only and cannot tell which database is behind it.
//!
//! To add a query: write it on the trait it belongs to, with `now` as an argument (no database clock decides anything),
//! make every change of state one conditional statement whose affected rows are looked at, implement it in every
//! database module, add a case to `conformance`, which every implementation must pass, and run `scripts/generate-sqlx`.

mod cipher;
#[cfg(feature = "conformance")]
#[expect(clippy::unwrap_used, reason = "a case that cannot go on has failed")]
pub mod conformance;
mod error;
mod postgres;
mod rows;
mod store;
#[cfg(feature = "conformance")]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test without its database cannot go on")]
pub mod testing;

pub use cipher::{Cipher, CipherError, EncryptionKey, Sealed};
pub use error::StorageError;
pub use postgres::{MigrationReport, PgOptions, PgStore, ScratchSchema};
pub use store::{
    ActiveCounts, ApiKey, ApiKeys, Applications, CodeBinding, Completion, Created, ExchangeClaim,
    InvitationLimit, NewSession, ProcessedEvents, Profiles, SessionCursor, SessionEnding, SessionFilter,
    Sessions, Store, Tokens,
};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, StorageError>;
