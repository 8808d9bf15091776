//! End-to-end tests of the product: service processes, a simulated Lark, a real broker and database.
//!
//! One binary, because linking takes most of the time. To add a test: a function in the file of its topic.

mod browser;
mod cards;
mod concurrency;
mod conformance;
mod crashes;
mod degraded;
mod device;
mod exchanges;
mod flow;
mod listeners;
mod recovery;
mod refresh_kills;
mod relay;
mod revocation;
mod secrets;
mod standalone;
mod startup;
mod tracing;
mod websocket;
