//! Authorization sessions: inviting a person, sending and updating the card, reading how it goes.

mod card;
mod invite;
mod read;
mod validate;

pub use invite::Invite;
