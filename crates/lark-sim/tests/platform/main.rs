//! The platform's rules, tested over plain HTTP and WebSocket without the project's client.

#![cfg(test)]

mod callback;
mod control;
mod faults;
mod messages;
mod oauth;
mod socket;
mod support;
