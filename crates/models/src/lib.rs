//! Plain domain types: identifiers, sessions and their states, tokens, people, card options, clock and randomness.
//!
//! What may live here: data and the rules that need nothing but data. What may not: IO of any kind, a database,
//! a broker, an HTTP type, a schema crate (`contracts` has the schemas). Every other crate of the workspace depends on this one; this one depends on none of them.
//!
//! To add a type: validate in the constructor, keep secrets in [`SecretString`], and make sure that
//! the output of `Debug` is safe in a log line.

mod actor;
mod api_key;
mod application;
mod audit;
mod backoff;
mod call_rate;
mod card;
mod clock;
mod entropy;
mod id;
mod session;
mod spelled_enum;
pub mod text;
mod token;
mod user;

pub use actor::{Actor, KeyAccess, Origin, Principal};
pub use api_key::KeyScope;
pub use application::{Application, Brand, TokenApi};
pub use audit::{AuditAction, AuditOutcome};
pub use backoff::Backoff;
pub use call_rate::{CallRate, CallRequest, Lane};
pub use card::{CardFace, CardOptions, Locale, ReauthorizationReason};
pub use clock::{Clock, ManualClock, ShiftedClock, SystemClock, Timestamp};
pub use entropy::{Entropy, OsEntropy, SeededEntropy, is_secret_token};
pub use id::{AppId, EventId, IdError, MessageId, OpenId, SessionId, UnionId, UserId};
pub use secrecy::{ExposeSecret, SecretString};
pub use session::{
    AuthMethod, AuthSession, ConsentSecrets, DeviceGrant, FailureReason, Person, SessionState,
};
pub use token::{
    LossReason, RefreshPolicy, StoredPair, StoredSecret, StoredToken, TokenKind, TokenPair, TokenStatus,
    UnreadableSecret,
};
pub use user::{SuspensionReason, UserProfile, UserState};
