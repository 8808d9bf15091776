//! Errors of the simulator: what a driver of [`crate::Sim`] gets, and why a push brought no answer.

use std::{io, net::SocketAddr};

/// Errors of the simulator and of the people that it simulates.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The address is not loopback.
    #[error("{0} is not a loopback address: the control API would be open to the network")]
    NotLoopback(SocketAddr),
    /// An application's id has the wrong form.
    #[error(transparent)]
    AppId(#[from] larkauth_models::IdError),
    /// The address cannot be bound.
    #[error("{0} cannot be listened on; stop what listens there, or choose another address")]
    Listen(SocketAddr, #[source] io::Error),
    /// The HTTP client could not be built.
    #[error("cannot start")]
    Start(#[from] io::Error),
    /// No such application.
    #[error("no such application")]
    NoApp,
    /// No such person.
    #[error("no such person")]
    NoUser,
    /// No such message, or it was recalled.
    #[error("no such message")]
    NoMessage,
    /// The card has no such button.
    #[error("the card has no such button")]
    NoButton,
    /// The card is too old to be clicked.
    #[error("the card is too old to be clicked")]
    CardTooOld,
    /// The consent page refuses.
    #[error("the consent page refuses: {0}")]
    Consent(&'static str),
    /// A page could not be fetched.
    #[error("cannot fetch the page: {0}")]
    Page(#[source] reqwest::Error),
    /// The application did not answer a callback.
    #[error("the callback failed: {0}")]
    Callback(#[from] PushError),
    /// The answer to a URL verification was not its challenge.
    #[error("the challenge was not answered with itself")]
    Challenge,
    /// The awaited state was not reached in time.
    #[error("not seen within the deadline")]
    Deadline,
}

/// Reasons for a callback without an answer. The person is shown [`PushError::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// No long connection is open, and no callback URL may be used.
    #[error("no long connection is open and no callback URL is set")]
    NoConnection,
    /// The deadline passed.
    #[error("no answer within the deadline")]
    Timeout,
    /// The connection ended before the answer.
    #[error("the connection ended before the answer")]
    Disconnected,
    /// Answered with this code (long connection) or HTTP status.
    #[error("answered with code {0}")]
    Failed(i64),
    /// The answer is not JSON.
    #[error("the answer is not JSON")]
    BadBody,
}

impl PushError {
    /// Returns the code in the error toast of a card.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::NoConnection => 200_340,
            Self::Timeout | Self::Disconnected => 200_341,
            Self::Failed(_) => 200_671,
            Self::BadBody => 200_672,
        }
    }
}
