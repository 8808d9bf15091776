//! The environment of tests that need more than one crate: real service processes, a simulated Lark, a real database
//! and broker of their own, and TCP proxies in between that can be cut.
//!
//! What may live here: starting, driving and observing. What may not: assertions about the product, which are in
//! `tests/`.

mod api;
mod otlp;
mod sdk;
mod service;
mod taps;
mod wait;
mod world;

pub use api::{Answer, Api};
pub use otlp::{Collector, Span};
pub use sdk::SdkProgram;
pub use service::{Kind, Service};
pub use taps::{BusTap, Call, LarkTap, RawMessage};
pub use wait::{TIMEOUT, eventually};
pub use world::{Asked, Options, World};
