//! The platform's rules, seen from outside: plain HTTP and WebSocket, none of this project's client.

#![cfg(test)]

mod callback;
mod control;
mod faults;
mod messages;
mod oauth;
mod socket;
mod support;
