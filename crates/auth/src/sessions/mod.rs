//! Authorization sessions: inviting a person, sending and updating the card, reading how it goes.

mod card;
mod device;
mod idempotency;
mod invite;
mod read;
mod validate;

pub use idempotency::IdempotencyKey;
pub(crate) use idempotency::session_id_of;
pub use invite::Invite;
pub use validate::scopes_to_ask_for;
pub(crate) use validate::{check_scope_names, is_scope_name};
