//! The way messages take: the bus trait and its RabbitMQ implementation.
//!
//! What may live here: publishing with confirms, consuming with bounded concurrency, retry by delay, dead letters,
//! reconnecting. What may not: what a message means. The code above knows [`Bus`] only and cannot tell which broker is
//! behind it.
//!
//! To add a broker: implement [`Bus`], then run [`conformance`] against it; every implementation passes the same cases.

mod bus;
#[cfg(feature = "conformance")]
pub mod conformance;
mod policy;
mod rabbitmq;
#[cfg(feature = "conformance")]
pub mod testing;

pub use bus::{
    Bus, BusError, BusHealth, Consume, Delivery, Handler, Outgoing, PendingReply, ReplyAddress, Verdict,
};
pub use policy::RetryPolicy;
pub use rabbitmq::{RabbitMq, RabbitMqOptions};
