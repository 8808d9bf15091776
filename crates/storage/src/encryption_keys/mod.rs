//! Which encryption keys the stored values need, and sealing them again with another key.
//!
//! The sealed columns are those of [`Table::sealed_columns`](crate::transfer::Table::sealed_columns). A new one needs its
//! name there, and in `reseal` of both database crates.

mod missing_keys;
mod rotate;
mod survey;
mod unreadable;

use std::time::Duration;

use async_trait::async_trait;
use larkauth_models::Timestamp;

pub use self::{
    missing_keys::{MissingKey, missing_keys},
    rotate::{Rotated, rotate},
    survey::{KeySurvey, KeyValues},
    unreadable::{UnreadableToken, UnreadableTokens},
};
use crate::{
    AuditEntry, Result,
    transfer::{Record, Transfer},
};

/// A row before and after its values were sealed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// The row as it was read.
    pub old: Record,
    /// The same row with other sealed values.
    pub new: Record,
}

/// An encryption key that stored values may need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Id of the key.
    pub key_id: String,
    /// Last time at which a running process said that it encrypts with the key, by the clock of the database. `None` when
    /// none has said so since the table exists.
    pub sealed_at: Option<Timestamp>,
    /// Time since then, by the same clock.
    pub sealed_ago: Option<Duration>,
}

/// Encryption keys in use. A key is noted before a process encrypts with it, and forgotten by an operator only.
#[async_trait]
pub trait EncryptionKeys: Transfer {
    /// Replaces the sealed values of rows, in one transaction and each row only if all its sealed values are still the old
    /// ones. Waits for no row that another transaction holds. Returns for each row whether it was replaced.
    async fn reseal(&self, rows: &[Resealed]) -> Result<Vec<bool>>;
    /// Notes that this process encrypts with a key. Writes at most once in 30 s.
    async fn note_key_use(&self, key_id: &str) -> Result<()>;
    /// Returns the noted keys, ordered by id.
    async fn key_uses(&self) -> Result<Vec<KeyUse>>;
    /// Forgets a key, unless a process has noted it since `known` was read. Returns whether it was forgotten.
    async fn forget_key_use(&self, known: &KeyUse, audit: &AuditEntry) -> Result<bool>;
}
