//! The platform's rules, each a method of [`crate::state::State`]: one file per group of endpoints. Nothing here waits.

pub(crate) mod consent;
pub(crate) mod devices;
pub(crate) mod grants;
pub(crate) mod messages;
pub(crate) mod sockets;
