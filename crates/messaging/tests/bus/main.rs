//! One binary for the tests of the bus on RabbitMQ, so that they are linked once.
#![expect(clippy::unwrap_used, reason = "a test")]

mod broker;
mod conformance;
mod rabbitmq;
mod tls;
