//! Storage: repository traits, encryption at rest, transfer between databases, one conformance suite.
//!
//! What may live here: code that all databases share. What may not: a statement of one database, a decision about
//! authorization, a call to Lark, a message. Callers know [`Store`] only and cannot tell which database implements it;
//! `larkauth-storage-postgres` and `larkauth-storage-sqlite` do.
//!
//! To add a query: declare it in the trait of its table, with `now` as an argument (the database's clock measures
//! claims, leases, polls, budgets and the use of encryption keys only, which several machines compare);
//! give a call that changes something for an actor an [`AuditEntry`], and write it in the transaction of the change;
//! make every change of state one conditional statement and check the number of affected rows; implement it in the file
//! of the same name of each database crate; add a case to `conformance`; run `scripts/generate`.
//! To let readers keep a row in memory: a trigger that announces its changes, see [`Changes`].
//! To add a table or a column: a migration for each database, under the same names (sealed values are bound to them),
//! and its field in [`transfer`], so that the column is copied between databases.

mod api_keys;
mod applications;
mod audit;
pub mod backend;
mod call_budgets;
mod changes;
mod cipher;
#[cfg(feature = "conformance")]
#[expect(clippy::unwrap_used, reason = "a case that cannot continue has failed")]
pub mod conformance;
mod device_polls;
mod encryption_keys;
mod error;
mod escrow;
mod horizon;
mod job_ticks;
mod people;
mod processed_events;
mod profiles;
mod reauthorizations;
mod refreshes;
mod session_types;
mod sessions;
mod store;
#[cfg(feature = "conformance")]
#[expect(clippy::unwrap_used, reason = "a test without its data cannot continue")]
pub mod testing;
mod token_state;
mod tokens;
pub mod transfer;

pub use api_keys::{ApiKey, ApiKeys};
pub use applications::{Applications, Registration};
pub use audit::{Audit, AuditCursor, AuditEntry, AuditFilter, pseudonym};
pub use backend::migrations::MigrationReport;
pub use call_budgets::{CallBudgets, GrantedCalls, MAX_CALL_LEAD};
pub use changes::{Change, ChangeFeed, Changes};
pub use cipher::{Cipher, CipherError, EncryptionKey, Sealed};
pub use device_polls::{DevicePoll, DevicePolls, NextPoll};
pub use encryption_keys::{
    EncryptionKeys, KeySurvey, KeyUse, KeyValues, MissingKey, Resealed, Rotated, UnreadableToken,
    UnreadableTokens, missing_keys, rotate,
};
pub use error::StorageError;
pub use escrow::{open_refreshed, seal_escrow, seal_refreshed};
pub use horizon::{Horizon, HorizonCount, HorizonCursor, HorizonFilter, Loss, TokenRisks};
pub use job_ticks::{JobTicks, MAX_CLOCK_LEAD};
pub use people::{People, UnannouncedPerson};
pub use processed_events::ProcessedEvents;
pub use profiles::{Erased, ProfileCursor, ProfilePage, Profiles};
pub use reauthorizations::Reauthorizations;
pub use refreshes::{
    DueApplication, DueOrder, LeasedToken, MAX_LEASE_END, RefreshClaim, RefreshEnd, RefreshedToken, Refreshes,
};
pub use session_types::{
    ActiveCounts, CodeBinding, Completion, Created, EndCursor, ExchangeClaim, InvitationLimit,
    InvitationPause, NewSession, SessionCursor, SessionEnding, SessionFilter, UnannouncedEnd,
};
pub use sessions::Sessions;
pub use store::{PoolUsage, Store};
pub use token_state::{SecretState, TokenState};
pub use tokens::Tokens;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, StorageError>;
