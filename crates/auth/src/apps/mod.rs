//! Registered applications and their Lark clients.

mod registry;

pub use registry::{App, Directory, LarkSettings};
