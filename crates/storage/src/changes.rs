use async_trait::async_trait;

use crate::Result;

/// A committed change of rows that processes keep in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The token of one person was stored, refreshed, revoked or erased, or its status changed.
    Token {
        /// The application.
        app_id: String,
        /// The person.
        open_id: String,
    },
    /// An application was registered, changed, enabled or disabled.
    Applications,
    /// An API key was created, rotated or revoked.
    ApiKeys,
    /// Any row may have changed.
    Everything,
}

/// Changes made by any process. The database announces each in the transaction that makes it, so that no program can change
/// a row and omit, lose or delay the announcement.
#[async_trait]
pub trait Changes {
    /// Opens a feed of the changes that are committed from now on. `None` when the way to the database has none.
    async fn change_feed(&self) -> Result<Option<Box<dyn ChangeFeed>>>;
}

/// See [`Changes::change_feed`]. After an error, or a call of [`ChangeFeed::next`] that was cancelled, changes may be missing:
/// the feed must be opened anew.
#[async_trait]
pub trait ChangeFeed: Send {
    /// Returns the changes since the last call. Every change that was committed before this call is among them, or was
    /// returned earlier.
    async fn next(&mut self) -> Result<Vec<Change>>;
    /// Waits until a change has arrived. Waits forever where the database does not call. Cancel safe.
    async fn arrived(&mut self);
}
