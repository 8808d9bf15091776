//! The stage for tests that need more than one crate: real service processes, a simulated Lark, a real database and
//! broker of their own, and TCP proxies in between that can be cut.
//!
//! What may live here: starting, driving and watching. What may not: an assertion about the product; those are in `tests/`.

mod api;
mod otlp;
mod service;
mod taps;
mod world;

pub use api::{Answer, Api};
pub use otlp::{Collector, Span};
pub use service::{Kind, Service};
pub use taps::{BusTap, Call, LarkTap, RawMessage};
pub use world::{Asked, Options, World, eventually};

/// How long a test waits for anything before it fails.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
