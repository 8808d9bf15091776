//! Looking people up at Lark: what they are called, and whether they are served.
//!
//! [`pass`] goes through all people on a schedule, [`look`] looks at one after a refresh of the token. [`state`] suspends
//! and restores a person, and [`announce`] tells other services.

mod announce;
mod contacts;
mod look;
mod pass;
mod state;
