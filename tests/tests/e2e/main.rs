//! The product as its users meet it: service processes, a simulated Lark, a real broker and database.
//!
//! One binary, since linking is what takes time. To add a test: a function in the file of its topic.
#![expect(missing_docs, reason = "tests")]

mod concurrency;
mod flow;
mod recovery;
mod secrets;
mod startup;
mod tracing;
mod websocket;
