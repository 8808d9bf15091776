//! The way messages take: the bus trait, its RabbitMQ implementation, and one inside an SQLite file.
//!
//! What may live here: publishing with confirms, consuming with bounded concurrency, retry by delay, dead letters,
//! reconnecting. What may not: what a message means. The code above knows [`Bus`] only and cannot tell which broker is
//! behind it.
//!
//! To add a broker: implement [`Bus`], then run [`conformance`] against it; every implementation passes the same cases.

mod bus;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dispatch;
mod embedded;
mod policy;
mod rabbitmq;
mod replies;
mod routing;
#[cfg(feature = "conformance")]
pub mod testing;

pub use bus::{
    Bus, BusError, BusHealth, Consume, DeadLetter, Delivery, Disposition, Handler, Outgoing, PendingReply,
    ReplyAddress,
};
pub use embedded::{Backlog, EmbeddedBus, EmbeddedOptions};
use policy::MAX_LENGTH;
pub use policy::RetryPolicy;
pub use rabbitmq::{RabbitMq, RabbitMqOptions};
