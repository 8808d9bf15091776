//! Plain domain types: identifiers, sessions and their states, tokens, people, card options, clock and randomness.
//!
//! What may live here: data and the rules that need nothing but data. What may not: IO of any kind, a database,
//! a broker, an HTTP type. Everything else in the workspace stands on this crate, and it stands on nothing of ours.
//!
//! To add a type: give it its own validation in the constructor, keep secrets in [`SecretString`], and make sure that
//! `Debug` of the whole can be printed in a log line without harm.

mod actor;
mod api_key;
mod application;
mod backoff;
mod card;
mod clock;
mod entropy;
mod id;
mod session;
mod token;
mod user;

pub use actor::Actor;
pub use api_key::KeyScope;
pub use application::{Application, Brand, TokenApi};
pub use backoff::Backoff;
pub use card::{CardFace, CardOptions, Locale};
pub use clock::{Clock, ManualClock, SystemClock};
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use id::{AppId, EventId, IdError, MessageId, OpenId, SessionId, UnionId, UserId};
pub use secrecy::{ExposeSecret, SecretString};
pub use session::{AuthMethod, AuthSession, ConsentSecrets, FailureReason, Person, SessionState};
pub use token::{StoredToken, TokenKind, TokenPair, TokenStatus};
pub use user::UserProfile;

/// Wall-clock time everywhere in this workspace.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// A unit-only enum whose variants have one fixed spelling: in the database, on the wire, in metrics.
// `$text` is a `tt`: utoipa's derive does not look into a `literal` and would document the variant's name instead.
macro_rules! spelled_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:tt),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $text)] $variant),+
        }
        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The one spelling used in the database, on the wire and in metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
        impl std::str::FromStr for $name {
            type Err = crate::IdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(crate::IdError::new(stringify!($name), concat!("one of", $(" `", $text, "`"),+), text)),
                }
            }
        }
    };
}
pub(crate) use spelled_enum;
