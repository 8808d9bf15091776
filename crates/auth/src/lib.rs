//! The domain's verbs: inviting, taking clicks and redirects, exchanging codes, keeping tokens, ending sessions.
//!
//! What may live here: decisions. What may not: SQL, AMQP, HTTP servers; this crate knows the traits
//! [`larkauth_storage::Store`] and [`larkauth_messaging::Bus`] and Lark's client, and cannot tell what is behind them.
//!
//! The way of the data, by module: [`sessions`] creates an invitation → [`handlers`] sends the card → [`callbacks`] takes
//! the click and [`redirect`] the browser → [`handlers`] exchange the code and end the session → [`handlers`] bring the
//! card to its final face → [`tokens`] serves the token. [`Context::expire_sessions`] ends what nobody ended.
//!
//! To add a message: its type in `larkauth-contracts`, a handler here with the policy for poison messages in its doc
//! comment, a line in [`handlers::consumers`].

mod apps;
pub mod callbacks;
pub mod cards;
mod consent;
mod context;
mod error;
mod events;
pub mod handlers;
mod jobs;
pub mod redirect;
mod seal;
pub mod sessions;
pub mod tokens;

pub use apps::{App, Directory, LarkSettings};
pub use context::{Context, Policy};
pub use error::AuthError;
