//! Keeping tokens alive.
//!
//! [`attempt`] is the one place where a refresh token is sent: under the lease of its row, with a deadline shorter than the
//! lease, and with the new pair kept first of all. [`decision`] says what an attempt without a pair means. [`on_read`]
//! refreshes because a caller needs the token, [`due`] because its time has come, [`probe`] to find out whether Lark accepts
//! a suspended person again.

mod attempt;
mod decision;
mod due;
#[cfg(test)]
mod model;
mod on_read;
mod probe;
