//! The message bus: the trait [`Bus`] and its implementation on RabbitMQ. The embedded bus is `larkauth-messaging-sqlite`.
//!
//! What may live here: publishing with confirms, consuming with bounded concurrency, retry by delay, dead letters,
//! reconnecting. What may not: the meaning of a message; a database. Crates above this one know [`Bus`] only, and not the
//! broker behind it.
//!
//! To add a broker: implement [`Bus`] with the parts in [`backend`], implement `testing::TestBed` for it, and run the suite
//! in `conformance`; every implementation passes the same cases.

pub mod backend;
mod bus;
#[cfg(feature = "conformance")]
pub mod conformance;
mod policy;
mod rabbitmq;
#[cfg(feature = "conformance")]
pub mod testing;

pub use bus::{
    Bus, BusError, BusHealth, Consume, DeadLetter, Delivery, Disposition, Handler, Offer, Offered, Outgoing,
    PendingReply, ReplyAddress,
};
pub use policy::RetryPolicy;
pub use rabbitmq::{RabbitMq, RabbitMqOptions};
