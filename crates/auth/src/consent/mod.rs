//! From a click or a redirect to a stored token.
//!
//! [`click`] and [`redirect`] are the two ways in. Both end in [`exchange`], which claims the code, sends it to Lark, has
//! [`identity`] check who consented, and has [`commit`] store the pair. [`deadline`] keeps time for the later steps.

pub(crate) mod click;
mod commit;
pub(crate) mod deadline;
pub(crate) mod error;
mod exchange;
mod identity;
pub(crate) mod redirect;
mod retry;
