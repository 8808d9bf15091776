//! The message bus inside the SQLite file of a single machine, with statements checked at compile time. No other program
//! has to run.
//!
//! Every change of one bus goes through one connection, many at a time in one transaction, and is confirmed once that is
//! on disk. A delivery has a lease that is renewed while its handler runs; when the process crashes the lease expires, and
//! another consumer gets the message. Consumers of the same process are notified at once; messages of another process on
//! the same file are found within a second, and replies do not cross from one process to another.
//!
//! What may live here: SQLite's statements of the bus. What may not: how the file is opened and migrated, which is
//! `larkauth-sqlite`'s; anything that another bus would have to repeat, which is in `larkauth_messaging::backend`.
//!
//! To add a statement: a `Change` (`writer.rs`) when it writes, `Engine::read` when it reads; after a changed
//! statement or migration run `scripts/generate`, which renews the committed query data in `.sqlx`.

mod backlog;
mod bus;
mod consume;
mod dead_letters;
mod engine;
mod file;
mod isolate;
mod lease;
mod maintenance;
mod notifier;
mod options;
mod publishing;
mod settle;
#[cfg(feature = "testing")]
#[expect(clippy::expect_used, clippy::panic, reason = "a test without its file cannot go on")]
pub mod testing;
mod writer;

pub use backlog::Backlog;
pub use bus::EmbeddedBus;
pub use options::EmbeddedOptions;
