//! What every implementation of [`Bus`](crate::Bus) needs: handling and settling a delivery, pending replies, routing
//! by topic patterns. For the crates that implement it.

mod dispatch;
mod replies;
pub mod routing;

pub use dispatch::{Dispatcher, Incoming, NextAttempt, Settle};
pub use replies::Replies;

/// Largest number of messages in a queue; publishing to a full queue is refused. Protects the disk.
pub const MAX_LENGTH: u32 = 1_000_000;

/// Largest size of the bodies in a queue, 1 GiB; publishing to a full queue is refused. Protects the disk from few large
/// messages.
pub const MAX_BYTES: i64 = 1 << 30;

/// Reason of a dead letter that crashed its consumers.
pub const CRASHED: &str = "its consumers crashed too often while they handled it alone";
