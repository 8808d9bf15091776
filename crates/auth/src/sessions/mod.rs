//! Inviting a person, and following the session to its end.

mod invite;

pub use invite::Invite;
