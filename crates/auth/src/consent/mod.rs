//! From a click or a redirect to a stored token.
//!
//! [`click`] and [`redirect`] are two ways in. Both end in [`exchange`], which claims the code, sends it to Lark and
//! puts the pair in escrow. [`device`] is the third: it polls Lark with device codes, as [`device_decision`] says, and renews
//! them. [`promote`] has [`renew`] get a missing access token, [`identity`] check who consented and [`commit`] store the
//! pair; [`resume`] does it for a pair in escrow whose worker did not. [`deadline`] keeps time for the later steps.

pub(crate) mod click;
mod commit;
mod dead_letter;
pub(crate) mod deadline;
mod device;
mod device_decision;
pub(crate) mod error;
mod exchange;
mod identity;
mod promote;
pub(crate) mod redirect;
mod renew;
mod resume;
mod retry;
