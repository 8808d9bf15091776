//! What tests of a network need on this machine:
//!
//! - [`Authority`]: a certificate authority that exists for one test.
//! - [`TlsServer`]: a server with a certificate of it.
//! - [`HttpProxy`]: a proxy that knows CONNECT and records what it is asked for.
//! - [`BlackHole`]: an address that never answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod authority;
mod black_hole;
mod proxy;
mod server;

pub use self::{
    authority::{Authority, Certificate, Validity},
    black_hole::BlackHole,
    proxy::{Connect, HttpProxy},
    server::TlsServer,
};
