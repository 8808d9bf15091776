//! What every service process shares: parts built from settings, operations endpoints, supervision, shutdown in order.
//!
//! What may live here: wiring that all services need. What may not: a decision about authorization, a route of one
//! service. A service builds on [`Process`]: `Process::start`, spawn its long-lived tasks, hand back [`ServiceHandle`].

mod admin;
mod bootstrap;
mod buses;
mod data_dir;
mod database_probe;
mod entry;
mod healthcheck;
mod listeners;
mod process;
mod registrations;
mod routes;
mod server;
mod signals;
mod stores;

pub use bootstrap::{connect, lark_settings};
pub use buses::Broker;
pub use data_dir::{DataDir, DataDirLock};
pub use database_probe::no_writes;
pub use entry::{service_main, until_stopped};
pub use healthcheck::{healthcheck, healthcheck_of};
pub use process::{Process, ServiceHandle, database_clock};
pub use routes::{Routes, Shortcut};
pub use server::serve;
pub use signals::shutdown_signal;
pub use stores::{AnyStore, Database, cipher, cipher_of, no_cipher};

/// A request makes many small allocations, which the system's allocator does slowly: docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
